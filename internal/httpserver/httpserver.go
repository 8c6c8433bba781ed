// Package httpserver answers one question: how does a plain HTTP server end with its
// context?
//
// It is for the servers beside the metadata server, and must not know what they serve.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Run serves on the listener until ctx ends, and returns nil then. It closes the
// listener and all connections. Errors begin with the name and the address.
func Run(ctx context.Context, name string, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s on %s: %w", name, listener.Addr(), err)
	}
	return nil
}
