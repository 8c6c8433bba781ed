package local

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/vishvananda/netlink"
)

// network is a network of a compose file: a bridge, with a namespace for each
// container.
type network struct {
	name    string
	subnet  netip.Prefix
	gateway netip.Addr
	host    *namespace
	joined  int
}

func newNetwork(t *testing.T, project *types.Project, name string) *network {
	t.Helper()
	config := project.Networks[name]
	if config.Ipam.Driver != "" || config.Driver != "" || len(config.Ipam.Config) != 1 || config.Ipam.Config[0].Gateway != "" {
		t.Fatalf("network %s: this test builds a bridge with one subnet and Docker's own gateway, and this is another: %+v", name, config)
	}
	subnet, err := netip.ParsePrefix(config.Ipam.Config[0].Subnet)
	if err != nil {
		t.Fatal(err)
	}
	// Docker gives the first address to the bridge.
	n := &network{name: name, subnet: subnet, gateway: subnet.Masked().Addr().Next(), host: newNamespace(t)}
	if err := n.host.links.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bridge"}}); err != nil {
		t.Fatal(err)
	}
	n.host.up(t, "bridge", netip.PrefixFrom(n.gateway, subnet.Bits()))
	return n
}

// join makes the namespace of a container with this address.
func (n *network) join(t *testing.T, address string) *namespace {
	t.Helper()
	ip, err := netip.ParseAddr(address)
	if err != nil || !n.subnet.Contains(ip) || ip == n.gateway {
		t.Fatalf("%q is no address of a container in %s: %v", address, n.subnet, err)
	}
	container := newNamespace(t)
	bridge, err := n.host.links.LinkByName("bridge")
	if err != nil {
		t.Fatal(err)
	}
	n.joined++
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("veth%d", n.joined), MasterIndex: bridge.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(container.handle),
	}
	if err := n.host.links.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	n.host.up(t, veth.Name)
	container.up(t, "eth0", netip.PrefixFrom(ip, n.subnet.Bits()))
	if err := container.links.RouteAdd(&netlink.Route{Gw: net.IP(n.gateway.AsSlice())}); err != nil {
		t.Fatal(err)
	}
	return container
}

// hosts are the names that Docker's name server answers in the network.
func (n *network) hosts(project *types.Project) string {
	hosts := "127.0.0.1 localhost\n"
	for name, service := range project.Services {
		if config := service.Networks[n.name]; config != nil {
			hosts += config.Ipv4Address + " " + strings.Join(append(config.Aliases, name), " ") + "\n"
		}
	}
	return hosts
}
