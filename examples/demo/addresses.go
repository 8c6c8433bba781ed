package main

import (
	"context"
	"fmt"
	"io"
	"net"
)

// addresses is where everything listens.
type addresses struct {
	metadata, admin, fake string
	storage, proxy        net.Listener
}

// chooseAddresses takes the usual ports, and free ones for those that are taken.
// Those of the emulator are free when this returns, and should be until it
// listens.
func chooseAddresses(ctx context.Context, out io.Writer) (a addresses, err error) {
	a.storage, err = listen(ctx, out, "Cloud Storage", "127.0.0.1:8987")
	if err != nil {
		return a, err
	}
	a.proxy, err = listen(ctx, out, "the proxy", "127.0.0.1:8986")
	if err != nil {
		_ = a.storage.Close()
		return a, err
	}
	var held []net.Listener // until all are chosen: they must differ
	for _, c := range []struct {
		to    *string
		what  string
		usual string
	}{
		{&a.metadata, "the metadata server", "127.0.0.1:8080"},
		{&a.admin, "the admin endpoint", "127.0.0.1:8989"},
		{&a.fake, "the fake Google", "127.0.0.1:8988"},
	} {
		listener, failed := listen(ctx, out, c.what, c.usual)
		if failed != nil {
			err = failed
			break
		}
		held = append(held, listener)
		*c.to = listener.Addr().String()
	}
	for _, listener := range held {
		_ = listener.Close()
	}
	if err != nil {
		a.close()
	}
	return a, err
}

// close gives back the ports that the demo itself holds.
func (a addresses) close() {
	_ = a.storage.Close()
	_ = a.proxy.Close()
}

func listen(ctx context.Context, out io.Writer, what, usual string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", usual)
	if err == nil {
		return listener, nil
	}
	listener, another := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if another != nil {
		return nil, fmt.Errorf("a port for %s: %w; and for any other: %w", what, err, another)
	}
	fmt.Fprintf(out, "%s is taken, %s is at %s.\n", usual, what, listener.Addr())
	return listener, nil
}
