package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// group runs components until one fails or the context ends, and then waits for all.
type group struct {
	*errgroup.Group
	ctx  context.Context
	stop context.CancelFunc
}

func newGroup(ctx context.Context) group {
	ctx, stop := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	return group{g, ctx, stop}
}

// abandon ends what has been started, because of err.
func (g group) abandon(err error) error {
	g.stop()
	_ = g.Wait()
	return err
}

// serveHTTP runs a plain HTTP server on a listener until the group ends.
func (g group) serveHTTP(name string, listener net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	g.Go(func() error {
		stop := context.AfterFunc(g.ctx, func() { _ = server.Close() })
		defer stop()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("%s on %s: %w", name, listener.Addr(), err)
		}
		return nil
	})
}

// listen names the flag whose address cannot be had.
func listen(flag, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return listener, nil
}
