package daemon

import (
	"context"
	"errors"
	"net"
	"syscall"

	"gke-metadata-emulator/internal/admin"
	"gke-metadata-emulator/server"
)

// listeners are the sockets of a metadata server: for its callers, and for operators.
type listeners struct {
	callers, admin net.Listener
	leavesOutNode  bool   // the metadata address does not lead here in the node's own network
	routing        string // mode that leads callers here; empty if there is none
}

func openListeners(callers, admin string) (*listeners, error) {
	l := &listeners{}
	var err error
	if l.callers, err = Listen("listen", callers); err != nil {
		return nil, err
	}
	if l.admin, err = Listen("admin-listen", admin); err != nil {
		_ = l.callers.Close()
		return nil, err
	}
	return l, nil
}

// close is for listeners that no server has closed.
func (l *listeners) close() {
	_ = l.callers.Close()
	_ = l.admin.Close()
}

// nodeURL is where processes in the node's own network reach the metadata server;
// empty if they do at the metadata address.
func (l *listeners) nodeURL() string {
	if l.leavesOutNode {
		return "http://" + l.callers.Addr().String()
	}
	return ""
}

// serve starts the metadata server and the admin server, and then reports their
// addresses.
func (l *listeners) serve(p *program, metadata *server.Server, instanceID string, ready func() error, listening func(callers, admin net.Addr)) {
	operators := admin.New(admin.Options{Listener: l.admin, Gatherer: p.registry, Ready: ready, InstanceID: instanceID, NodeURL: l.nodeURL()})
	p.run(func(ctx context.Context) error { return metadata.Serve(ctx, l.callers) })
	p.run(operators.Run)
	if listening != nil {
		listening(l.callers.Addr(), l.admin.Addr())
	}
}

// Listen opens the TCP socket of a flag. Errors are of type [*FlagError].
func Listen(flag, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err == nil {
		return listener, nil
	}
	remedy := "give an IP address of this machine and a free port"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = "another program listens there (ss -ltnp shows which): stop it, or give another port"
	case errors.Is(err, syscall.EACCES):
		remedy = "ports below 1024 need root or CAP_NET_BIND_SERVICE: run with either, or give a higher port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		remedy = "give an address of this machine (ip address shows them)"
	}
	return nil, FlagErrorf(flag, remedy, "%v", err)
}
