package routing

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"gke-metadata-emulator/internal/podtest"
)

func TestMain(m *testing.M) {
	podtest.Main()
	goleak.VerifyTestMain(m)
}

var metadata = net.IPv4(169, 254, 169, 254)

// newNamespace moves the test's thread into a new network namespace, which ends with the
// test.
func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// If the thread cannot return it stays locked, and so ends with the test.
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
	up(t, "lo")
	return own
}

func up(t *testing.T, name string, addresses ...string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if err := netlink.AddrAdd(link, must(t, netlink.ParseAddr, address)); err != nil {
			t.Fatalf("%s on %s: %v", address, name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatalf("%s up: %v", name, err)
	}
	return link
}

func must[A, V any](t *testing.T, f func(A) (V, error), a A) V {
	t.Helper()
	v, err := f(a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// addresses returns the addresses of an interface with their scopes.
func addresses(t *testing.T, name string) string {
	t.Helper()
	list, err := netlink.AddrList(must(t, netlink.LinkByName, name), netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, a := range list {
		all = append(all, fmt.Sprintf("%s scope %d", a.IPNet, a.Scope))
	}
	return strings.Join(all, ", ")
}

func TestAddress_InstallAndRemoveAreIdempotent(t *testing.T) {
	newNamespace(t)
	before := addresses(t, "lo")
	installed := fmt.Sprintf("169.254.169.254/32 scope %d", unix.RT_SCOPE_HOST)
	a := Address{Interface: "lo", IP: metadata}
	for _, step := range []struct {
		name string
		do   func() error
		want bool
	}{
		{"Remove of nothing", a.Remove, false},
		{"Install", a.Install, true},
		{"Install again", a.Install, true},
		{"Remove", a.Remove, false},
		{"Remove again", a.Remove, false},
		{"Install after Remove", a.Install, true},
	} {
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if got := addresses(t, "lo"); strings.Contains(got, installed) != step.want {
			t.Errorf("after %s lo has %s", step.name, got)
		}
	}
	if err := a.Remove(); err != nil {
		t.Error(err)
	}
	if after := addresses(t, "lo"); after != before {
		t.Errorf("lo had %s and has %s", before, after)
	}
}

func TestAddress_AcceptsIPv6(t *testing.T) {
	newNamespace(t)
	a := Address{Interface: "lo", IP: net.ParseIP("fd20:ce::254")}
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		t.Skipf("this kernel has no IPv6: %v", err)
	}
	if err := a.Install(); err != nil {
		t.Fatal(err)
	}
	if got := addresses(t, "lo"); !strings.Contains(got, "fd20:ce::254/128") {
		t.Errorf("lo has %s", got)
	}
	if err := errors.Join(a.Install(), a.Remove(), a.Remove()); err != nil {
		t.Error(err)
	}
}

func TestAddress_ServerSeesAddressOfPod(t *testing.T) {
	node := newNamespace(t)
	if err := (Address{Interface: "lo", IP: metadata}).Install(); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "169.254.169.254:80")
	if err != nil {
		t.Fatalf("after Install: %v", err)
	}
	t.Cleanup(func() { _ = listener.Close() })

	pod := newNamespace(t)
	enter(t, node)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "pod0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod)}); err != nil {
		t.Fatalf("veth pair: %v", err)
	}
	up(t, "pod0", "10.244.0.1/24")
	enter(t, pod)
	eth0 := up(t, "eth0", "10.244.0.7/24")
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(10, 244, 0, 1)}); err != nil {
		t.Fatalf("default route: %v", err)
	}

	client, err := net.DialTimeout("tcp", "169.254.169.254:80", 5*time.Second) // the socket is in the namespace of this thread
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if got := accepted.RemoteAddr().(*net.TCPAddr).IP.String(); got != "10.244.0.7" {
		t.Errorf("the server sees the pod as %s", got)
	}
	if got := accepted.LocalAddr().String(); got != "169.254.169.254:80" {
		t.Errorf("the pod reached %s", got)
	}
	if _, err := accepted.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 5)
	if _, err := io.ReadFull(client, answer); err != nil || string(answer) != "hello" {
		t.Errorf("the pod received %q (%v)", answer, err)
	}
}

func enter(t *testing.T, ns netns.NsHandle) {
	t.Helper()
	if err := netns.Set(ns); err != nil {
		t.Fatal(err)
	}
}

func TestAddress_NamesUnknownInterface(t *testing.T) {
	a := Address{Interface: "nosuch0", IP: metadata}
	for _, err := range []error{a.Install(), a.Remove()} {
		if err == nil || !strings.Contains(err.Error(), "interface nosuch0") {
			t.Errorf("error %v", err)
		}
	}
}

func TestAddress_NamesMissingCapability(t *testing.T) {
	newNamespace(t)
	dropped(t, unix.CAP_NET_ADMIN)
	a := Address{Interface: "lo", IP: metadata}
	for verb, do := range map[string]func() error{"add": a.Install, "remove": a.Remove} {
		err := do()
		if err == nil || !strings.Contains(err.Error(), "cannot "+verb+" 169.254.169.254 on lo") || !strings.Contains(err.Error(), "capability NET_ADMIN") {
			t.Errorf("error %v", err)
		}
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("the cause of %v is lost", err)
		}
	}
}

// dropped removes capabilities from the test's thread, which is locked, until the test
// ends.
func dropped(t *testing.T, capabilities ...int) {
	t.Helper()
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	if err := unix.Capget(header, &had[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Capset(header, &had[0]); err != nil {
			t.Errorf("Capset: %v", err)
		}
	})
	fewer := had
	for _, c := range capabilities {
		fewer[c/32].Effective &^= 1 << (c % 32)
	}
	if err := unix.Capset(header, &fewer[0]); err != nil {
		t.Fatal(err)
	}
}

func TestNone_ChangesNothing(t *testing.T) {
	newNamespace(t)
	before := addresses(t, "lo")
	if err := errors.Join(None{}.Install(), None{}.Remove()); err != nil {
		t.Error(err)
	}
	if after := addresses(t, "lo"); after != before {
		t.Errorf("lo had %s and has %s", before, after)
	}
}
