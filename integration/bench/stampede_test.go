package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/kubernetes"
)

// upstream is the duration of a call to Google in these measurements.
const upstream = 50 * time.Millisecond

// Hundreds of pods of a few KSAs start at once and all request tokens, several times, before
// there is any token.
func TestStampede_OneUpstreamCallPerKSA(t *testing.T) {
	const pods, accounts, requests = 200, 20, 3
	n := newNode(t)
	daemon := n.daemon("--prefetch=false")
	g := new(errgroup.Group)
	g.SetLimit(8)
	address := func(i int) string { return fmt.Sprintf("127.0.%d.%d", 2+i/200, 1+i%200) }
	for i := range accounts {
		n.pod(fmt.Sprintf("ksa-%d", i), address(i))
	}
	for i := accounts; i < pods; i++ {
		g.Go(func() error { n.pod(fmt.Sprintf("ksa-%d", i%accounts), address(i)); return nil })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	clients := make([]*http.Client, pods)
	for i := range clients {
		clients[i] = kubernetes.Client(t, address(i))
		// The daemon learns about the pod without a token.
		n.await(func() error { return get(t.Context(), clients[i], daemon.address, emailPath) })
	}
	for _, method := range []string{fakegoogle.MethodSTSToken, fakegoogle.MethodGenerateAccessToken} {
		n.google.SetFault(method, fakegoogle.Fault{Latency: upstream})
	}
	before := n.google.Counters()
	start := time.Now()
	g = new(errgroup.Group)
	for i := range pods {
		for range requests {
			g.Go(func() error { return get(t.Context(), clients[i], daemon.address, tokenPath) })
		}
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	elapsed := time.Since(start)
	after := n.google.Counters()
	exchanged := after[fakegoogle.MethodSTSToken] - before[fakegoogle.MethodSTSToken]
	minted := after[fakegoogle.MethodGenerateAccessToken] - before[fakegoogle.MethodGenerateAccessToken]
	t.Logf("%d requests from %d pods of %d KSAs, %s for each upstream call: %s, %d STS and %d IAM calls", pods*requests, pods, accounts, upstream, elapsed.Round(time.Millisecond), exchanged, minted)
	if exchanged != accounts || minted != accounts {
		t.Errorf("%d STS and %d IAM calls for %d KSAs", exchanged, minted, accounts)
	}
	if *measure && elapsed > 500*time.Millisecond {
		t.Errorf("all requests are answered after %s, goal: at most 500 ms", elapsed)
	}
}

const emailPath = "/computeMetadata/v1/instance/service-accounts/default/email"

// await retries until there is no error. It waits for another process.
func (n *node) await(f func() error) {
	n.t.Helper()
	var err error
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-ticker.C {
		if err = f(); err == nil {
			return
		}
	}
	n.t.Fatal(err)
}

func get(ctx context.Context, client *http.Client, address, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return err
}
