package attest

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gke-metadata-emulator/routing"
)

// The kernel translates the client's port if a conntrack entry of an earlier pod has the
// same address and port.
func TestAttestor_AttestsPodWithTranslatedPort(t *testing.T) {
	const (
		target = "192.0.2.1:8987"
		ip     = "10.244.0.7"
		port   = 40000
	)
	f := newFixture(t, fixtureOptions{policy: Require})
	f.node.AddAddress(t, "192.0.2.1/32")
	plain := listen(t, target)
	table := routing.NFTables{
		Cgroup: filepath.Join(string(f.root), "kubepods"), Target: netip.MustParseAddrPort(target),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Repaired: routing.NewRepaired(prometheus.NewRegistry()),
	}
	if err := table.Probe(); err != nil {
		t.Skipf("no nf_tables: %v", err)
	}
	if err := table.Install(); err != nil {
		t.Fatal(err)
	}
	f.node.NewPod(t, "cart0", "10.244.0.1", ip).Enter(t)
	pod := f.cart.Start(t)
	f.node.Enter(t)
	server, client := netip.MustParseAddrPort(target), netip.AddrPortFrom(netip.MustParseAddr(ip), port)
	if err := netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFlow{
		FamilyType: unix.AF_INET,
		Forward:    netlink.IPTuple{Protocol: unix.IPPROTO_TCP, SrcIP: server.Addr().AsSlice(), SrcPort: server.Port(), DstIP: client.Addr().AsSlice(), DstPort: client.Port()},
		Reverse:    netlink.IPTuple{Protocol: unix.IPPROTO_TCP, SrcIP: client.Addr().AsSlice(), SrcPort: client.Port(), DstIP: server.Addr().AsSlice(), DstPort: server.Port()},
		TimeOut:    100, ProtoInfo: &netlink.ProtoInfoTCP{State: nlTCPEstablished},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := pod.Connect("4", client.String(), metadata); err != nil {
		t.Fatal(err)
	}
	c, err := f.Listener(plain).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if seen := c.RemoteAddr().(*net.TCPAddr); seen.Port == port {
		t.Fatalf("the connection comes from %s: its port was not translated, so the test proves nothing", seen)
	}
	f.wantPod(c, cart)
	if n := f.records(); n != 0 {
		t.Errorf("%d records are left, want 0", n)
	}
	// The next connection has a free port.
	if _, err := pod.Connect("4", ip+":0", metadata); err != nil {
		t.Fatal(err)
	}
	if c, err = f.Listener(plain).Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	f.wantPod(c, cart)
}

// nlTCPEstablished is TCP_CONNTRACK_ESTABLISHED of the kernel's
// include/uapi/linux/netfilter/nf_conntrack_tcp.h.
const nlTCPEstablished = 3
