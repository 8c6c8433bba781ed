package config

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/wellknown"
	"gke-metadata-emulator/routing"
)

const (
	standardInterface = "lo"
	standardBPFFS     = "/sys/fs/bpf"
)

// metadataListen is the address and port that client libraries connect to.
func metadataListen() string {
	return fmt.Sprintf("%s:%d", wellknown.MetadataIPv4, wellknown.MetadataPort)
}

// Routing has the settings by which packets for the metadata address reach the daemon.
type Routing struct {
	Mode      string // one of package routing
	Interface string // gets the metadata address, in mode address
	BPFFS     string // mount point of a bpffs, for mode ebpf
}

func routingModes() []string {
	return []string{routing.ModeAuto, routing.ModeEBPF, routing.ModeNFTables, routing.ModeAddress, routing.ModeNone}
}

func (r *Routing) flags(f *pflag.FlagSet) {
	choiceVar(f, &r.Mode, "routing", routing.ModeAddress, routingModes(), "how packets for the metadata address reach the daemon: address (the address is added to an interface of the node), ebpf or nftables (packets are redirected to --listen), none (pods set GCE_METADATA_HOST) or auto (the first mode that the node permits and --listen allows); see docs/routing-modes.md")
	f.StringVar(&r.Interface, "interface", standardInterface, "`name` of the interface that gets the metadata address, for --routing=address")
	f.StringVar(&r.BPFFS, "bpffs", standardBPFFS, "`folder` where a bpffs is mounted, in which the redirect of --routing=ebpf is pinned")
}

// complete takes the value of --listen: each mode permits only some addresses.
func (r *Routing) complete(listen string) error {
	if err := checkChoice("routing", r.Mode, routingModes()); err != nil {
		return err
	}
	r.BPFFS = cmp.Or(r.BPFFS, standardBPFFS)
	address, err := netip.ParseAddrPort(listen)
	if err != nil {
		return FlagErrorf("listen", "give one like "+metadataListen(), "%q is not IP:PORT", listen)
	}
	isMetadata := address.String() == metadataListen()
	switch r.Mode {
	case routing.ModeEBPF, routing.ModeNFTables:
		if isMetadata {
			return FlagErrorf("listen", "give an address of the node, in a pod by the downward API (status.hostIP), with a port of your choice", "%s contradicts --routing=%s, which redirects packets for %s to --listen", listen, r.Mode, metadataListen())
		}
		fallthrough
	case routing.ModeAuto:
		if ip := address.Addr(); !isMetadata && (ip.IsLoopback() || ip.IsUnspecified()) {
			return FlagErrorf("listen", "give an address of the node, in a pod by the downward API (status.hostIP)", "--routing=%s cannot redirect packets of pods to %s", r.Mode, listen)
		}
	case routing.ModeAddress:
		if !isMetadata {
			return FlagErrorf("listen", "use --routing=none and let pods set GCE_METADATA_HOST, or leave it out", "%s contradicts --routing=address, which adds the address of %s to the node", listen, metadataListen())
		}
	}
	if r.Interface == "" && (r.Mode == routing.ModeAddress || r.Mode == routing.ModeAuto && isMetadata) {
		return FlagErrorf("interface", "use "+standardInterface, "is needed with --routing=%s", r.Mode)
	}
	return nil
}
