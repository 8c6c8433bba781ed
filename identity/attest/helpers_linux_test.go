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

// fixture is a node with two pods' cgroups, a listener at the metadata address and an
// attestor.
type fixture struct {
	*Attestor
	t          testing.TB
	node       podtest.Network
	root       podtest.Cgroup
	cart, bill podtest.Cgroup
	recorder   *Recorder
	listener   net.Listener
	registry   *prometheus.Registry
}

type fixtureOptions struct {
	policy     Policy
	noRecorder bool
	size       uint32
}

func newFixture(t testing.TB, o fixtureOptions) *fixture {
	t.Helper()
	f := &fixture{t: t, root: podtest.NewCgroup(t), node: podtest.NewNetwork(t), registry: prometheus.NewRegistry()}
	f.cart, f.bill = f.root.Pod(t, "burstable", cart), f.root.Pod(t, "besteffort", bill)
	f.node.AddAddress(t, "169.254.169.254/32")

	cgroups, err := OpenCgroups(string(f.root))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cgroups.Close() })
	if !o.noRecorder {
		f.recorder = newTestRecorder(t, cgroups.Kubepods(), o.size)
	}
	if f.Attestor, err = New(Options{Policy: o.policy, Cgroups: cgroups, Records: f.recorder, Metrics: f.registry}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Attestor.Close)
	plain, err := net.Listen("tcp", metadata)
	if err != nil {
		t.Fatal(err)
	}
	f.listener = f.Listener(plain)
	t.Cleanup(func() { _ = f.listener.Close() })
	return f
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
func (f *fixture) accept() net.Conn {
	f.t.Helper()
	c, err := f.listener.Accept()
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

func connection(c net.Conn) identity.Connection {
	return identity.Connection{Remote: c.RemoteAddr().(*net.TCPAddr).AddrPort(), Local: c.LocalAddr().(*net.TCPAddr).AddrPort()}
}

// wantPod checks the pod of an attested connection. If uid is empty, the connection must
// be identified by its address alone.
func (f *fixture) wantPod(c net.Conn, uid string) {
	f.t.Helper()
	caller, err := c.(identity.Attested).Caller()
	if err != nil || caller.PodUID != uid {
		f.t.Errorf("from %s: pod %q (%v), want %q", c.RemoteAddr(), caller.PodUID, err, uid)
	}
	if got := c.(interface{ PodUID() string }).PodUID(); f.policy != IP && got != uid {
		f.t.Errorf("the connection from %s has the pod %q, want %q", c.RemoteAddr(), got, uid)
	}
}

func (f *fixture) wantRefused(c net.Conn, reason identity.Reason, text string) {
	f.t.Helper()
	caller, err := c.(identity.Attested).Caller()
	var e *identity.Error
	if !errors.As(err, &e) || e.Reason != reason || !strings.Contains(e.Error(), text) {
		f.t.Errorf("from %s: pod %q, error %v, want the reason %s and the text %q", c.RemoteAddr(), caller.PodUID, err, reason, text)
	}
}

// wantProofs checks how often each proof was counted, by name and number.
func (f *fixture) wantProofs(want map[string]int) {
	f.t.Helper()
	for proof, n := range want {
		if got := testutil.ToFloat64(f.metrics.proofs.WithLabelValues(proof)); int(got) != n {
			f.t.Errorf("%v proofs of the kind %s were counted, want %d", got, proof, n)
		}
	}
}

// records returns the number of recorded connections whose record was not taken.
func (f *fixture) records() int {
	f.t.Helper()
	var (
		key    bpf.RecorderConnection
		record bpf.RecorderRecord
		n      int
	)
	for all := f.recorder.maps.GkemdRecords.Iterate(); all.Next(&key, &record); n++ {
	}
	return n
}
