package attest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/bpf"
	"gke-metadata-emulator/internal/podtest"
)

func TestMain(m *testing.M) {
	podtest.Main()
	goleak.VerifyTestMain(m)
}

const (
	metadata = "169.254.169.254:80"
	cart     = "11111111-2f0e-4d0a-9a53-3f1f4a3f7c11"
	bill     = "22222222-2f0e-4d0a-9a53-3f1f4a3f7c22"
)

// bench is a node with two pods' cgroups, a listener at the metadata address and an
// attestor.
type bench struct {
	*Attestor
	t          testing.TB
	node       podtest.Network
	root       podtest.Cgroup
	cart, bill podtest.Cgroup
	recorder   *Recorder
	listener   net.Listener
	registry   *prometheus.Registry
}

type benchOptions struct {
	policy     Policy
	noRecorder bool
	size       uint32
}

func newBench(t testing.TB, o benchOptions) *bench {
	t.Helper()
	b := &bench{t: t, root: podtest.NewCgroup(t), node: podtest.NewNetwork(t), registry: prometheus.NewRegistry()}
	b.cart, b.bill = b.root.Pod(t, "burstable", cart), b.root.Pod(t, "besteffort", bill)
	b.node.AddAddress(t, "169.254.169.254/32")

	cgroups, err := OpenCgroups(string(b.root))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cgroups.Close() })
	if !o.noRecorder {
		b.recorder = newTestRecorder(t, cgroups.Kubepods(), o.size)
	}
	if b.Attestor, err = New(Options{Policy: o.policy, Cgroups: cgroups, Records: b.recorder, Metrics: b.registry}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Attestor.Close)
	plain, err := net.Listen("tcp", metadata)
	if err != nil {
		t.Fatal(err)
	}
	b.listener = b.Listener(plain)
	t.Cleanup(func() { _ = b.listener.Close() })
	return b
}

func newTestRecorder(t testing.TB, cgroup string, size uint32) *Recorder {
	t.Helper()
	r, err := newRecorder(cgroup, size)
	// The verifier refuses a program with EACCES, which must not be a reason to skip.
	if os.Geteuid() != 0 && errors.Is(err, os.ErrPermission) {
		t.Skipf("%v: run the test as root", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.Add(netip.MustParseAddrPort(metadata)); err != nil {
		t.Fatal(err)
	}
	return r
}

// accept accepts a connection, which lives until the test ends.
func (b *bench) accept() net.Conn {
	b.t.Helper()
	c, err := b.listener.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

func connection(c net.Conn) identity.Connection {
	return identity.Connection{Remote: c.RemoteAddr().(*net.TCPAddr).AddrPort(), Local: c.LocalAddr().(*net.TCPAddr).AddrPort()}
}

// wantPod checks which pod a connection is attested to be of; where uid is empty,
// that it is known by its address alone.
func (b *bench) wantPod(c net.Conn, uid string) {
	b.t.Helper()
	caller, err := c.(identity.Attested).Caller()
	if err != nil || caller.PodUID != uid {
		b.t.Errorf("from %s: pod %q (%v), want %q", c.RemoteAddr(), caller.PodUID, err, uid)
	}
	if got := c.(interface{ PodUID() string }).PodUID(); b.policy != IP && got != uid {
		b.t.Errorf("the connection from %s says pod %q, want %q", c.RemoteAddr(), got, uid)
	}
}

func (b *bench) wantRefused(c net.Conn, reason identity.Reason, text string) {
	b.t.Helper()
	caller, err := c.(identity.Attested).Caller()
	var e *identity.Error
	if !errors.As(err, &e) || e.Reason != reason || !strings.Contains(e.Error(), text) {
		b.t.Errorf("from %s: pod %q, error %v, want one for the reason %s that holds %q", c.RemoteAddr(), caller.PodUID, err, reason, text)
	}
}

// wantProofs checks how often each proof was counted, by name and number.
func (b *bench) wantProofs(want map[string]int) {
	b.t.Helper()
	for proof, n := range want {
		if got := testutil.ToFloat64(b.metrics.proofs.WithLabelValues(proof)); int(got) != n {
			b.t.Errorf("%v proofs of the kind %s are counted, want %d", got, proof, n)
		}
	}
}

// records are how many connections are noted and not taken.
func (b *bench) records() int {
	b.t.Helper()
	var (
		key    bpf.RecorderConnection
		record bpf.RecorderRecord
		n      int
	)
	for all := b.recorder.maps.GkemdRecords.Iterate(); all.Next(&key, &record); n++ {
	}
	return n
}
