package podtest

import (
	"errors"
	"net"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Network is a network namespace.
type Network struct {
	netns.NsHandle
}

// NewNetwork moves the test's thread into a new network namespace until the test ends.
// If it cannot be created, the test is skipped.
func NewNetwork(t testing.TB) Network {
	t.Helper()
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// If the thread cannot return, it stays locked and therefore ends with the test.
		if netns.Set(before) == nil {
			runtime.UnlockOSThread()
		}
		_ = before.Close()
	})
	own, err := netns.New()
	if errors.Is(err, unix.EPERM) {
		t.Skip("a network namespace needs CAP_SYS_ADMIN: run the test as root")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Close() })
	setUp(t, "lo")
	return Network{own}
}

// Enter moves the test's thread, which is locked, into the network.
func (n Network) Enter(t testing.TB) {
	t.Helper()
	if err := netns.Set(n.NsHandle); err != nil {
		t.Fatal(err)
	}
}

// NewPod creates a network that is connected to n like a pod to its node: by a veth
// pair. name is the node's interface, which has the gateway's address; the pod's is
// eth0. The test's thread is in n, before and after.
func (n Network) NewPod(t testing.TB, name, gateway string, podIPs ...string) Network {
	t.Helper()
	pod := NewNetwork(t)
	n.Enter(t)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod.NsHandle)}); err != nil {
		t.Fatalf("veth pair: %v", err)
	}
	link := setUp(t, name, gateway+"/32")
	for _, ip := range podIPs {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(t, ip)}); err != nil {
			t.Fatalf("route to %s: %v", ip, err)
		}
	}
	pod.Enter(t)
	defer n.Enter(t)
	var prefixes []string
	for _, ip := range podIPs {
		prefixes = append(prefixes, ip+"/32")
	}
	eth0 := setUp(t, "eth0", prefixes...)
	for _, route := range []netlink.Route{
		{LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(t, gateway)},
		{LinkIndex: eth0.Attrs().Index, Gw: net.ParseIP(gateway)},
	} {
		if err := netlink.RouteAdd(&route); err != nil {
			t.Fatalf("route of the pod: %v", err)
		}
	}
	return pod
}

func host(t testing.TB, ip string) *net.IPNet {
	t.Helper()
	prefix, err := netlink.ParseIPNet(ip + "/32")
	if err != nil {
		t.Fatal(err)
	}
	return prefix
}

// setUp adds addresses to an interface of the thread's network, and sets it up.
func setUp(t testing.TB, name string, addresses ...string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		a, err := netlink.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			t.Fatalf("%s on %s: %v", address, name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatalf("%s up: %v", name, err)
	}
	return link
}

// AddAddress adds an address to the loopback interface of n, which the thread is in.
func (n Network) AddAddress(t testing.TB, address string) {
	t.Helper()
	setUp(t, "lo", address)
}

// AddDefaultRoute adds a default route to n, which the thread is in. Nodes have one: a
// connection without a route fails before it can be redirected.
func (n Network) AddDefaultRoute(t testing.TB) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	_, everywhere, err := net.ParseCIDR("0.0.0.0/0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: everywhere}); err != nil {
		t.Fatalf("default route: %v", err)
	}
}

// Divert sends the packets of n, which the thread is in, for an address to one of its
// interfaces, as after a forged ARP answer.
func (n Network) Divert(t testing.TB, ip, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(t, ip)}); err != nil {
		t.Fatalf("route to %s: %v", ip, err)
	}
	// No interface has this hardware address, but a packet socket receives the packets.
	if err := netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(ip), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0x66},
	}); err != nil {
		t.Fatalf("neighbour %s: %v", ip, err)
	}
}
