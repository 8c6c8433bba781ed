package daemon

import (
	"cmp"
	"context"
	"net/netip"

	"gke-metadata-emulator/routing"
)

// The values of --routing.
const (
	RoutingAuto     = routing.ModeAuto
	RoutingEBPF     = routing.ModeEBPF
	RoutingNFTables = routing.ModeNFTables
	RoutingAddress  = routing.ModeAddress
	RoutingNone     = routing.ModeNone
)

// keeper is a router that other programs could undo.
type keeper interface {
	Keep(context.Context) error
}

// hostNetworkExcluder is a router that may not redirect pods of the node's network. It
// returns the reason, or nil.
type hostNetworkExcluder interface {
	HostNetworkExcluded() error
}

func isMetadata(a netip.AddrPort) bool { return a.String() == MetadataAddress+":80" }

func (s *Serve) checkRouting() error {
	if err := oneOf("routing", s.Routing, RoutingAuto, RoutingEBPF, RoutingNFTables, RoutingAddress, RoutingNone); err != nil {
		return err
	}
	if err := hostPort("listen", s.Listen); err != nil {
		return err
	}
	s.BPFFS = cmp.Or(s.BPFFS, "/sys/fs/bpf")
	listen, err := netip.ParseAddrPort(s.Listen)
	if err != nil {
		return FlagErrorf("listen", "give one like 127.0.0.1:8989", "%q is not IP:PORT", s.Listen)
	}
	switch s.Routing {
	case RoutingEBPF, RoutingNFTables:
		if isMetadata(listen) {
			return FlagErrorf("listen", "give an address of the node, in a pod by the downward API (status.hostIP), with a port of your choice", "%s contradicts --routing=%s, which sends there what pods send to %s:80", s.Listen, s.Routing, MetadataAddress)
		}
		fallthrough
	case RoutingAuto:
		if ip := listen.Addr(); !isMetadata(listen) && (ip.IsLoopback() || ip.IsUnspecified()) {
			return FlagErrorf("listen", "give an address of the node, in a pod by the downward API (status.hostIP)", "%s is not one that pods can be sent to by --routing=%s", s.Listen, s.Routing)
		}
	case RoutingAddress:
		if !isMetadata(listen) {
			return FlagErrorf("listen", "use --routing=none and let pods set GCE_METADATA_HOST, or leave it out", "%s contradicts --routing=address, which brings %s:80 to the node", s.Listen, MetadataAddress)
		}
	}
	if s.Interface == "" && (s.Routing == RoutingAddress || s.Routing == RoutingAuto && isMetadata(listen)) {
		return FlagErrorf("interface", "use lo", "is needed with --routing=%s", s.Routing)
	}
	return nil
}

// openRouted opens the listeners and installs the router to them. The mode address is
// installed first, because the server listens at its address; any other mode afterwards,
// when callers can be answered.
func (s *Serve) openRouted(o routing.Options, mode string, a *attestation) (*listeners, routing.Router, error) {
	if mode == RoutingAddress {
		if err := o.Router(mode, netip.AddrPort{}).Install(); err != nil {
			return nil, nil, err
		}
	}
	listeners, err := openListeners(s.Listen, s.AdminListen)
	if err != nil {
		return nil, nil, err
	}
	listens, err := netip.ParseAddrPort(listeners.callers.Addr().String())
	if err == nil {
		err = a.watch(listens)
	}
	router := o.Router(mode, listens)
	if err == nil && mode != RoutingAddress {
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
func (s *Serve) chooseRouting(o routing.Options) (mode, reason string, err error) {
	if s.Routing == RoutingEBPF && o.Kubepods == "" {
		return "", "", FlagErrorf("cgroup-root", "give the folder below which the kubelet makes the cgroup kubepods", "the cgroup of all pods was not found, which --routing=ebpf needs")
	}
	listen, err := netip.ParseAddrPort(s.Listen)
	if err != nil {
		return "", "", err
	}
	return o.Choose(s.Routing, listen)
}
