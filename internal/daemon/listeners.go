package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"gke-metadata-emulator/identity/attest"
	"gke-metadata-emulator/internal/admin"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/routing"
	"gke-metadata-emulator/server"
)

// listeners are the sockets of a metadata server: for its callers, and for operators.
type listeners struct {
	callers, admin net.Listener
	leavesOutNode  bool   // the metadata address does not lead here in the node's own network
	routing        string // mode that routes callers to the listeners; empty if there is none
}

func openListeners(addresses config.Listen) (*listeners, error) {
	l := &listeners{}
	var err error
	if l.callers, err = Listen("listen", addresses.Address); err != nil {
		return nil, err
	}
	if l.admin, err = Listen("admin-listen", addresses.Admin); err != nil {
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

// Listening is called with the addresses of the metadata server and of the admin server
// when both accept connections. It can be nil.
type Listening func(callers, admin net.Addr)

// serve starts the metadata server and the admin server.
func (l *listeners) serve(p *program, metadata *server.Server, instanceID string, ready func() error, listening Listening) {
	operators := admin.New(admin.Options{Listener: l.admin, Gatherer: p.registry, Ready: ready, InstanceID: instanceID, NodeURL: l.nodeURL()})
	p.run(func(ctx context.Context) error { return metadata.Serve(ctx, l.callers) })
	p.run(operators.Run)
	if listening != nil {
		listening(l.callers.Addr(), l.admin.Addr())
	}
}

// Listen opens the TCP socket of a flag. Errors are of type [*config.FlagError].
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
	return nil, config.FlagErrorf(flag, remedy, "%v", err)
}

// keeper is a router that other programs could undo.
type keeper interface {
	Keep(context.Context) error
}

// hostNetworkExcluder is a router that may not redirect pods of the node's network. It
// returns the reason, or nil.
type hostNetworkExcluder interface {
	HostNetworkExcluded() error
}

// startRouting opens the listeners and brings packets for the metadata address there.
func (s serve) startRouting(p *program, attested *attest.Attestation) (*listeners, error) {
	routes := routing.Options{Interface: s.Routing.Interface, BPFFS: s.Routing.BPFFS, Kubepods: attested.Kubepods(), Repaired: routing.NewRepaired(p.registry), Log: p.log}
	mode, reason, err := s.chooseRouting(routes)
	if err != nil {
		return nil, err
	}
	p.log.Info("routing", "mode", mode, "why", reason)
	newModes(p.registry).WithLabelValues(mode, attested.Mode()).Set(1)
	listeners, router, err := s.openRouted(routes, mode, attested)
	if err != nil {
		return nil, err
	}
	p.onClose(listeners.close)
	listeners.routing = mode
	if k, ok := router.(keeper); ok {
		p.run(k.Keep)
	}
	return listeners, nil
}

// openRouted opens the listeners and installs the router to them. The mode address is
// installed first, because the server listens at its address; any other mode afterwards,
// when callers can be answered.
func (s serve) openRouted(o routing.Options, mode string, a *attest.Attestation) (*listeners, routing.Router, error) {
	if mode == routing.ModeAddress {
		if err := o.Router(mode, netip.AddrPort{}).Install(); err != nil {
			return nil, nil, err
		}
	}
	listeners, err := openListeners(s.Listen)
	if err != nil {
		return nil, nil, err
	}
	listens, err := netip.ParseAddrPort(listeners.callers.Addr().String())
	if err == nil {
		err = a.Watch(listens)
	}
	router := o.Router(mode, listens)
	if err == nil && mode != routing.ModeAddress {
		err = router.Install()
	}
	if err == nil {
		err = o.RemoveOthers(router)
	}
	if err != nil {
		listeners.close()
		return nil, nil, err
	}
	if excluder, ok := router.(hostNetworkExcluder); ok && excluder.HostNetworkExcluded() != nil {
		listeners.leavesOutNode = true
	}
	listeners.callers = a.Listener(listeners.callers)
	return listeners, router, nil
}

// chooseRouting returns the mode of the settings, or the one that auto chooses, and the
// reason.
func (s serve) chooseRouting(o routing.Options) (mode, reason string, err error) {
	if s.Routing.Mode == routing.ModeEBPF && o.Kubepods == "" {
		return "", "", config.FlagErrorf("cgroup-root", "give the folder below which the kubelet makes the cgroup kubepods", "the cgroup of all pods was not found, which --routing=ebpf needs")
	}
	listen, err := netip.ParseAddrPort(s.Listen.Address)
	if err != nil {
		return "", "", err
	}
	return o.Choose(s.Routing.Mode, listen)
}
