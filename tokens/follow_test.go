package tokens

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/change"
)

const otherGSA = "other@shop-project.iam.gserviceaccount.com"

// inhabited is the workloads of a node, as a test sets them.
type inhabited struct {
	change.Signal
	mu       sync.Mutex
	pods     []identity.Workload
	notReady error
}

func (n *inhabited) Changed() <-chan struct{} { return n.Next() }

func (n *inhabited) Workloads() []identity.Workload {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pods
}

func (n *inhabited) Ready() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notReady
}

func (n *inhabited) set(pods ...identity.Workload) {
	n.mu.Lock()
	n.pods = pods
	n.mu.Unlock()
	n.Raise()
	synctest.Wait()
}

// followed is an engine that follows a node, whose first pod is the linked one and has
// its token.
func (g *offlineGoogle) followed(t *testing.T) (*Engine, *inhabited, *gated) {
	t.Helper()
	g.AddServiceAccount(otherGSA)
	g.Bind(otherGSA, workloadIdentityUser, testCaller)
	cluster, node := &gated{SubjectTokens: g.issuer}, &inhabited{}
	e := newEngine(t, g.federation(func(f *Federation) { f.Subjects = cluster }))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { e.Follow(ctx, node); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
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

func TestTokenOfAnotherAnnotationIsForgottenAtOnce(t *testing.T) {
	for name, now := range map[string]identity.Workload{
		"another GSA":       relinked,
		"no GSA":            unlinked,
		"another delegates": with(linked, func(w *identity.Workload) { w.Delegates = otherGSA }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				e, node, cluster := g.followed(t)
				node.set(now)
				if e.tokens.has(linkedKey) {
					t.Error("the token is still there")
				}
				node.set(relinked)
				_, err := e.AccessToken(t.Context(), relinked, DefaultScopes())
				check(t, err)
				// The KSA is the same to Google.
				g.wantCalls(t, nil, map[string]int{fakegoogle.MethodSTSToken: 1, fakegoogle.MethodGenerateAccessToken: 2})
				if got := cluster.calls.Load(); got != 1 {
					t.Errorf("%d KSA tokens", got)
				}
			})
		})
	}
}

func TestTokenThatIsUnderWayWhileTheAnnotationChangesIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e, node, _ := g.followed(t)
		g.SetFault(fakegoogle.MethodGenerateIDToken, fakegoogle.Fault{Latency: time.Second})
		request := IDTokenRequest{Audience: "a"}
		answered := make(chan error)
		go func() {
			_, err := e.IDToken(t.Context(), linked, request)
			answered <- err
		}()
		synctest.Wait()
		node.set(relinked)
		check(t, <-answered) // who asked before the change
		if e.tokens.has(idKey(linked, request)) {
			t.Error("the token is kept")
		}
	})
}

func TestKSATokenIsForgottenWithItsPodAndTheGSAsTokenStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e, node, cluster := g.followed(t)
		node.set(linked, second)
		if got := e.bound.held(); got != 1 {
			t.Fatalf("%d KSA tokens", got)
		}
		node.set(second)
		if got := e.bound.held(); got != 0 {
			t.Errorf("%d KSA tokens of a pod that is gone", got)
		}
		time.Sleep(2 * lingering)
		if _, err := e.AccessToken(t.Context(), second, DefaultScopes()); err != nil || cluster.calls.Load() != 1 {
			t.Errorf("%v, %d KSA tokens", err, cluster.calls.Load())
		}
		// What is renewed is renewed for who is here.
		time.Sleep(20 * time.Minute)
		if got := cluster.calls.Load(); got != 2 {
			t.Fatalf("%d KSA tokens, want 2", got)
		}
		synctest.Wait()
		e.bound.mu.Lock()
		defer e.bound.mu.Unlock()
		for k, entry := range e.bound.entries.all() {
			if entry.pod != second.Pod.UID {
				t.Errorf("%v is of pod %s", k, entry.pod)
			}
		}
	})
}

func TestTokensOfAKSAAreForgottenAMinuteAfterItsLastPodAndNotRenewedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		g.SetTokenLifetime(2 * time.Minute) // renewed within half a minute
		e, node, _ := g.followed(t)
		node.set()
		time.Sleep(lingering - time.Second)
		if !e.tokens.has(linkedKey) {
			t.Error("the token is gone already")
		}
		time.Sleep(lingering/2 + 2*time.Second)
		for _, store := range append(e.further, e.tokens.store) {
			if got := store.held(); got != 0 {
				t.Errorf("%d tokens of nobody", got)
			}
		}
		g.wantCalls(t, nil, map[string]int{fakegoogle.MethodSTSToken: 1, fakegoogle.MethodGenerateAccessToken: 1})
	})
}

func TestTokenStaysForThePodThatComesWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e, node, _ := g.followed(t)
		for range 3 {
			node.set()
			time.Sleep(lingering * 3 / 4)
			node.set(second)
		}
		time.Sleep(2 * lingering)
		_, err := e.AccessToken(t.Context(), second, DefaultScopes())
		check(t, err)
		g.wantCalls(t, nil, map[string]int{fakegoogle.MethodSTSToken: 1, fakegoogle.MethodGenerateAccessToken: 1})
	})
}
