package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/routing"
)

// The values of --routing.
const (
	RoutingAuto     = "auto"
	RoutingEBPF     = "ebpf"
	RoutingNFTables = "nftables"
	RoutingAddress  = "address"
	RoutingNone     = "none"
)

// Routing brings packets for the metadata address to this program.
type Routing interface {
	fmt.Stringer
	Install() error // no error where it is installed already
	Remove() error  // no error where it is not there
}

// keeper is a routing that somebody else could undo.
type keeper interface {
	Keep(context.Context) error
}

// partial is a routing that may leave out pods of the node's network, and says why.
type partial interface {
	LeftOut() error
}

// router makes the routing of a node.
type router struct {
	iface    string // of the mode address
	bpffs    string
	kubepods string // the cgroup of all pods; empty where it was not found
	repaired *prometheus.CounterVec
	log      *slog.Logger
}

func (r router) address() routing.Address {
	return routing.Address{Interface: r.iface, IP: net.ParseIP(MetadataAddress)}
}

func (r router) ebpf(target netip.AddrPort) routing.EBPF {
	return routing.EBPF{Cgroup: r.kubepods, Pins: filepath.Join(r.bpffs, "gke-metadata-emulator"), Target: target}
}

func (r router) nftables(target netip.AddrPort) *routing.NFTables {
	return &routing.NFTables{Cgroup: r.kubepods, Target: target, Log: r.log, Repaired: r.repaired}
}

// route is the routing of a mode to where the server listens.
func (r router) route(mode string, target netip.AddrPort) Routing {
	switch mode {
	case RoutingEBPF:
		return r.ebpf(target)
	case RoutingNFTables:
		return r.nftables(target)
	case RoutingAddress:
		return r.address()
	}
	return routing.None{}
}

// choose decides for --routing=auto, and says why.
func (r router) choose(listen netip.AddrPort) (mode, why string, err error) {
	if isMetadata(listen) {
		return RoutingAddress, "--listen is the metadata address itself", nil
	}
	noEBPF := r.ebpf(listen).Probe()
	if r.kubepods == "" {
		noEBPF = errors.New("the cgroup of all pods is not known, see --cgroup-root")
	}
	if noEBPF == nil {
		return RoutingEBPF, "the node permits it", nil
	}
	noNFTables := r.nftables(listen).Probe()
	if noNFTables == nil {
		return RoutingNFTables, "no eBPF: " + noEBPF.Error(), nil
	}
	return "", "", fmt.Errorf("--routing=auto: nothing works on this node; use --routing=address with --listen=%s:80: %w", MetadataAddress, errors.Join(noEBPF, noNFTables))
}

// removeAll takes every trace of every mode from the node.
func (r router) removeAll() error {
	return errors.Join(r.address().Remove(), r.ebpf(netip.AddrPort{}).Remove(), r.nftables(netip.AddrPort{}).Remove())
}

// alone removes what another mode has left, which would still lead elsewhere. Our
// own is there by now, and is written again in case that both used the same.
func (r router) alone(own Routing) error {
	if own.String() == RoutingNone {
		return nil // it may have no capability, and changes nothing
	}
	for _, other := range []Routing{r.ebpf(netip.AddrPort{}), r.nftables(netip.AddrPort{}), r.address()} {
		if other.String() == own.String() {
			continue
		}
		if err := other.Remove(); err != nil {
			r.log.Warn("what another mode of routing may have left cannot be removed", "mode", other.String(), "error", err)
		}
	}
	return own.Install()
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

// openRouted opens what callers connect to, with the way there: for the mode
// address that is there before, because its address is where the server listens;
// for any other after, when callers can be answered.
func (s *Serve) openRouted(r router, mode string, a *attestation) (*listeners, Routing, error) {
	if mode == RoutingAddress {
		if err := r.address().Install(); err != nil {
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
	route := r.route(mode, listens)
	if err == nil && mode != RoutingAddress {
		err = route.Install()
	}
	if err == nil {
		err = r.alone(route)
	}
	if err != nil {
		listeners.close()
		return nil, nil, err
	}
	if some, ok := route.(partial); ok && some.LeftOut() != nil {
		listeners.leavesOutNode = true
	}
	listeners.callers = a.Listener(listeners.callers)
	return listeners, route, nil
}

// modeOf is the mode of the settings, or the one that auto chooses.
func (s *Serve) modeOf(r router) (mode, why string, err error) {
	if s.Routing != RoutingAuto {
		if s.Routing == RoutingEBPF && r.kubepods == "" {
			return "", "", FlagErrorf("cgroup-root", "give the folder below which the kubelet makes the cgroup kubepods", "the cgroup of all pods was not found, which --routing=ebpf needs")
		}
		return s.Routing, "--routing says so", nil
	}
	listen, err := netip.ParseAddrPort(s.Listen)
	if err != nil {
		return "", "", err
	}
	return r.choose(listen)
}
