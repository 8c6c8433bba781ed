package main

import (
	"context"
	"fmt"
	"io"
	"net"
)

// addresses are the listening addresses of the demo's servers.
type addresses struct {
	metadata, admin, fake string
	storage, proxy        net.Listener
}

// chooseAddresses chooses the default ports, or free ones if they are in use. The
// emulator's ports are free when it returns; the emulator listens on them later.
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
	var reserved []net.Listener // open until all are chosen: they must differ
	for _, c := range []struct {
		field          *string
		name           string
		defaultAddress string
	}{
		{&a.metadata, "the metadata server", "127.0.0.1:8080"},
		{&a.admin, "the admin endpoint", "127.0.0.1:8989"},
		{&a.fake, "the fake Google", "127.0.0.1:8988"},
	} {
		listener, listenErr := listen(ctx, out, c.name, c.defaultAddress)
		if listenErr != nil {
			err = listenErr
			break
		}
		reserved = append(reserved, listener)
		*c.field = listener.Addr().String()
	}
	for _, listener := range reserved {
		_ = listener.Close()
	}
	if err != nil {
		a.close()
	}
	return a, err
}

// close closes the demo's own listeners.
func (a addresses) close() {
	_ = a.storage.Close()
	_ = a.proxy.Close()
}

// listen listens on the default address, or on a free port if it is in use.
func listen(ctx context.Context, out io.Writer, name, defaultAddress string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", defaultAddress)
	if err == nil {
		return listener, nil
	}
	listener, freePortErr := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if freePortErr != nil {
		return nil, fmt.Errorf("a port for %s: %w; and any free port: %w", name, err, freePortErr)
	}
	fmt.Fprintf(out, "%s is in use; %s is at %s.\n", defaultAddress, name, listener.Addr())
	return listener, nil
}
