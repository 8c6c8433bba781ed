package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/kubernetes"
)

// A new pod of an unused KSA requests a token as soon as the daemon knows the pod: at once
// without prefetch; with prefetch, after one mint has ended, as if the container took that
// long to start.
func TestFirstToken_OfANewPod(t *testing.T) {
	pods := 3
	if *measure {
		pods = 11
	}
	n := newNode(t)
	for _, method := range []string{fakegoogle.MethodSTSToken, fakegoogle.MethodGenerateAccessToken} {
		n.google.SetFault(method, fakegoogle.Fault{Latency: upstream})
	}
	n.pod("there-before", "127.0.1.250") // what exists at the start is prefetched later
	early, late := n.daemon("--prefetch"), n.daemon("--prefetch=false")
	fetched(t, n, early, 1)
	var with, without []time.Duration
	for i := range pods {
		without = append(without, n.first(late, fmt.Sprintf("late-%d", i), fmt.Sprintf("127.0.2.%d", 1+i), nil))
		with = append(with, n.first(early, fmt.Sprintf("early-%d", i), fmt.Sprintf("127.0.3.%d", 1+i), func() {
			// The pod before was that of the other daemon, and this one's too.
			fetched(t, n, early, 1+2*(i+1))
		}))
	}
	slices.Sort(with)
	slices.Sort(without)
	a, b := with[len(with)/2], without[len(without)/2]
	t.Logf("the first token of a new pod, Google takes %s a call, medians of %d: %s with prefetch, %s without: %.2f; without, of what Google took: %.2f",
		upstream, pods, a.Round(10*time.Microsecond), b.Round(10*time.Microsecond), a.Seconds()/b.Seconds(), b.Seconds()/(2*upstream).Seconds())
	if *measure && b > 2*upstream*115/100 {
		t.Errorf("%s is more than 1.15 times the upstream calls", b)
	}
	if a >= upstream {
		t.Errorf("%s with prefetch: Google was asked", a)
	}
}

// fetched waits for the tokens of so many pods: two of each, for two sets of scopes.
func fetched(t *testing.T, n *node, p *program, pods int) {
	t.Helper()
	n.await(func() error {
		got, err := p.metric(t.Context(), "gme_prefetches_total")
		if err == nil && int(got) < 2*pods {
			err = fmt.Errorf("%v tokens are there", got)
		}
		return err
	})
}

// first is the time that a new pod waits for its first token. between is a delay before
// the request, in addition to the time until the daemon knows the pod.
func (n *node) first(p *program, ksa, ip string, between func()) time.Duration {
	n.t.Helper()
	n.pod(ksa, ip)
	client := kubernetes.Client(n.t, ip)
	n.await(func() error { return get(n.t.Context(), client, p.address, emailPath) })
	if between != nil {
		between()
	}
	start := time.Now()
	if err := get(n.t.Context(), client, p.address, tokenPath); err != nil {
		n.t.Fatal(err)
	}
	return time.Since(start)
}
