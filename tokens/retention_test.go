package tokens

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/change"
)

const otherGSA = "other@shop-project.iam.gserviceaccount.com"

// fakeNode has the workloads that a test sets.
type fakeNode struct {
	change.Signal
	mu       sync.Mutex
	pods     []identity.Workload
	notReady error
}

func (n *fakeNode) Changed() <-chan struct{} { return n.Next() }

func (n *fakeNode) Workloads() []identity.Workload {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pods
}

func (n *fakeNode) Ready() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notReady
}

func (n *fakeNode) set(pods ...identity.Workload) {
	n.mu.Lock()
	n.pods = pods
	n.mu.Unlock()
	n.Raise()
	synctest.Wait()
}

// newFollowingEngine returns an engine that follows a node. The node's only pod is the
// linked one, and its token is cached.
func (g *offlineGoogle) newFollowingEngine(t *testing.T) (*Engine, *fakeNode, *fakeCluster) {
	t.Helper()
	g.AddServiceAccount(otherGSA)
	g.Bind(otherGSA, workloadIdentityUser, testCaller)
	cluster, node := &fakeCluster{SubjectTokens: g.issuer}, &fakeNode{}
	e := newEngine(t, g.federation(func(f *Federation) { f.Subjects = cluster }))
	startFollow(t, e, node)
	node.set(linked)
	_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
	check(t, err)
	return e, node, cluster
}

var (
	second    = with(linked, func(w *identity.Workload) { w.Pod.Name, w.Pod.UID = "cart-second", "second-uid" })
	relinked  = with(linked, func(w *identity.Workload) { w.GSA = otherGSA })
	linkedKey = accessKey(linked, DefaultScopes())
)

func TestFollow_AnnotationChangeDropsTokensAtOnce(t *testing.T) {
	for name, now := range map[string]identity.Workload{
		"another GSA":       relinked,
		"no GSA":            unlinked,
		"another delegates": with(linked, func(w *identity.Workload) { w.Delegates = otherGSA }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				e, node, cluster := g.newFollowingEngine(t)
				node.set(now)
				if e.tokens.has(linkedKey) {
					t.Error("the token is still there")
				}
				node.set(relinked)
				_, err := e.AccessToken(t.Context(), relinked, DefaultScopes())
				check(t, err)
				// To Google the KSA is still the same.
				g.wantCalls(t, nil, map[string]int{fakegoogle.MethodSTSToken: 1, fakegoogle.MethodGenerateAccessToken: 2})
				if got := cluster.calls.Load(); got != 1 {
					t.Errorf("%d KSA tokens", got)
				}
			})
		})
	}
}

func TestFollow_AnnotationChangeDiscardsTokenInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e, node, _ := g.newFollowingEngine(t)
		g.SetFault(fakegoogle.MethodGenerateIDToken, fakegoogle.Fault{Latency: time.Second})
		request := IDTokenRequest{Audience: "a"}
		answered := make(chan error)
		go func() {
			_, err := e.IDToken(t.Context(), linked, request)
			answered <- err
		}()
		synctest.Wait()
		node.set(relinked)
		check(t, <-answered) // requested before the change
		if e.tokens.has(idKey(linked, request)) {
			t.Error("the token is cached")
		}
	})
}

func TestFollow_KSATokenIsDroppedWithItsPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e, node, cluster := g.newFollowingEngine(t)
		node.set(linked, second)
		if got := e.ksaTokens.size(); got != 1 {
			t.Fatalf("%d KSA tokens", got)
		}
		node.set(second)
		if got := e.ksaTokens.size(); got != 0 {
			t.Errorf("%d KSA tokens of a pod that is gone", got)
		}
		time.Sleep(2 * absenceGrace)
		if _, err := e.AccessToken(t.Context(), second, DefaultScopes()); err != nil || cluster.calls.Load() != 1 {
			t.Errorf("%v, %d KSA tokens", err, cluster.calls.Load())
		}
		// Renewals are for pods that are still there.
		time.Sleep(20 * time.Minute)
		if got := cluster.calls.Load(); got != 2 {
			t.Fatalf("%d KSA tokens, want 2", got)
		}
		synctest.Wait()
		e.ksaTokens.mu.Lock()
		defer e.ksaTokens.mu.Unlock()
		for k, entry := range e.ksaTokens.entries.all() {
			if entry.podUID != second.Pod.UID {
				t.Errorf("%v was minted for pod %s", k, entry.podUID)
			}
		}
	})
}

func TestFollow_TokensAreDroppedAfterGracePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		g.SetTokenLifetime(2 * time.Minute) // renewed within half a minute
		e, node, _ := g.newFollowingEngine(t)
		node.set()
		time.Sleep(absenceGrace - time.Second)
		if !e.tokens.has(linkedKey) {
			t.Error("the token is gone already")
		}
		time.Sleep(absenceGrace/2 + 2*time.Second)
		for _, store := range append(e.credentialStores, e.tokens.store) {
			if got := store.size(); got != 0 {
				t.Errorf("%d tokens without a pod", got)
			}
		}
		g.wantCalls(t, nil, map[string]int{fakegoogle.MethodSTSToken: 1, fakegoogle.MethodGenerateAccessToken: 1})
	})
}

func TestFollow_TokensSurvivePodReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e, node, _ := g.newFollowingEngine(t)
		for range 3 {
			node.set()
			time.Sleep(absenceGrace * 3 / 4)
			node.set(second)
		}
		time.Sleep(2 * absenceGrace)
		_, err := e.AccessToken(t.Context(), second, DefaultScopes())
		check(t, err)
		g.wantCalls(t, nil, map[string]int{fakegoogle.MethodSTSToken: 1, fakegoogle.MethodGenerateAccessToken: 1})
	})
}
