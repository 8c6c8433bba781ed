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

// NewNetwork puts the test's thread into a network namespace of its own, which
// ends with the test. The test is skipped where it cannot.
func NewNetwork(t testing.TB) Network {
	t.Helper()
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The thread stays locked, and so ends with the test, where it cannot go back.
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
	addresses(t, "lo")
	return Network{own}
}

// Enter puts the test's thread, which is locked, into the network.
func (n Network) Enter(t testing.TB) {
	t.Helper()
	if err := netns.Set(n.NsHandle); err != nil {
		t.Fatal(err)
	}
}

// NewPod makes a network that is connected to n as a pod's is to its node: by a
// pair of interfaces, of which the node's has the gateway's address. The test's
// thread is in n, before and after.
func (n Network) NewPod(t testing.TB, name, gateway string, own ...string) Network {
	t.Helper()
	pod := NewNetwork(t)
	n.Enter(t)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod.NsHandle)}); err != nil {
		t.Fatalf("veth pair: %v", err)
	}
	link := addresses(t, name, gateway+"/32")
	for _, ip := range own {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(t, ip)}); err != nil {
			t.Fatalf("route to %s: %v", ip, err)
		}
	}
	pod.Enter(t)
	defer n.Enter(t)
	var with []string
	for _, ip := range own {
		with = append(with, ip+"/32")
	}
	eth0 := addresses(t, "eth0", with...)
	via := net.ParseIP(gateway)
	for _, route := range []netlink.Route{
		{LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(t, gateway)},
		{LinkIndex: eth0.Attrs().Index, Gw: via},
	} {
		if err := netlink.RouteAdd(&route); err != nil {
			t.Fatalf("route of the pod: %v", err)
		}
	}
	return pod
}

func host(t testing.TB, ip string) *net.IPNet {
	t.Helper()
	of, err := netlink.ParseIPNet(ip + "/32")
	if err != nil {
		t.Fatal(err)
	}
	return of
}

// addresses adds addresses to an interface of the network that the thread is in.
func addresses(t testing.TB, name string, all ...string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range all {
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

// Address puts an address on the loopback of the network that the thread is in.
func (n Network) Address(t testing.TB, address string) {
	t.Helper()
	addresses(t, "lo", address)
}

// Default gives the network that the thread is in a default route, as nodes have
// one: a connection that finds none ends before anything could redirect it.
func (n Network) Default(t testing.TB) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	_, all, err := net.ParseCIDR("0.0.0.0/0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: all}); err != nil {
		t.Fatalf("default route: %v", err)
	}
}

// Divert sends what the network, which the thread is in, has for an address to an
// interface of another, as after a forged answer of ARP.
func (n Network) Divert(t testing.TB, ip, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(t, ip)}); err != nil {
		t.Fatalf("route to %s: %v", ip, err)
	}
	// Nobody has this hardware address, but who listens hears.
	if err := netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(ip), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0x66},
	}); err != nil {
		t.Fatalf("neighbour %s: %v", ip, err)
	}
}
