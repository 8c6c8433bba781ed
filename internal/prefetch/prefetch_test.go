package prefetch

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/change"
	"gke-metadata-emulator/tokens"
)

// node is a node's pods, and a source of tokens.
type node struct {
	change.Signal
	mu       sync.Mutex
	pods     []identity.Workload
	notReady error                // the reason why not all pods are known
	lastUse  map[string]time.Time // by GSA
	duration time.Duration        // of a mint
	failure  func(gsa string) error

	requested    []string // GSAs
	requestTimes []time.Time
	running      int // mints
	maxRunning   int
}

func (n *node) Changed() <-chan struct{} { return n.Next() }

func (n *node) Workloads() []identity.Workload {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.pods)
}

func (n *node) Ready() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notReady
}

func (n *node) LastUse(w identity.Workload, s tokens.Scopes) time.Time {
	if !slices.Equal(s, tokens.DefaultScopes()) {
		return time.Time{}
	}
	return n.lastUse[w.GSA]
}

func (n *node) set(pods ...identity.Workload) {
	n.mu.Lock()
	n.pods = pods
	n.mu.Unlock()
	n.Raise()
}

func (n *node) AccessToken(ctx context.Context, w identity.Workload, s tokens.Scopes) (tokens.Token, error) {
	n.mu.Lock()
	n.requested, n.requestTimes = append(n.requested, w.GSA), append(n.requestTimes, time.Now())
	n.running++
	n.maxRunning = max(n.maxRunning, n.running)
	failure := n.failure
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.running--
		n.mu.Unlock()
	}()
	select {
	case <-time.After(n.duration):
	case <-ctx.Done():
		return tokens.Token{}, ctx.Err()
	}
	if !slices.Equal(s, tokens.DefaultScopes()) {
		return tokens.Token{}, fmt.Errorf("scopes %v", s)
	}
	if failure != nil {
		return tokens.Token{}, failure(w.GSA)
	}
	return tokens.NewToken("ya29.x", time.Now().Add(time.Hour)), nil
}

func (n *node) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, errors.New("the audience is not known")
}

func (n *node) requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.requested)
}

func linked(pod, gsa string) identity.Workload {
	return identity.Workload{Pod: identity.Pod{Namespace: "shop", Name: pod, UID: pod}, KSA: identity.ServiceAccount{Namespace: "shop", Name: "app", UID: "ksa"}, GSA: gsa}
}

func run(t *testing.T, n *node) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	p := New(Options{Identity: n, Tokens: n, Usage: n, Scopes: []tokens.Scopes{tokens.DefaultScopes()}})
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

func TestPrefetch_RequestsNewPodsTokenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("first", "a@x"))
		run(t, n)
		time.Sleep(startupSpread)
		n.set(linked("first", "a@x"), linked("second", "b@x"), linked("unlinked", ""))
		synctest.Wait()
		if got := n.requests(); !slices.Equal(got, []string{"a@x", "b@x"}) {
			t.Errorf("requested %v", got)
		}
		n.set(linked("first", "a@x"), linked("second", "b@x"))
		time.Sleep(time.Hour)
		if got := len(n.requests()); got != 2 {
			t.Errorf("%d requests, want 2", got)
		}
	})
}

func TestPrefetch_RequestsEachSetOfScopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("app", "a@x"))
		var requested []tokens.Scopes
		sets := []tokens.Scopes{tokens.DefaultScopes(), tokens.NewScopes(tokens.CloudPlatform)}
		p := New(Options{Identity: n, Tokens: scopesSource(func(s tokens.Scopes) error { requested = append(requested, s); return nil }), Scopes: sets})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := p.Run(ctx); err != nil || !reflect.DeepEqual(requested, sets) {
			t.Errorf("requested %v, %v", requested, err)
		}
	})
}

func TestPrefetch_RetriesOnlyMissingScopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("app", "a@x"))
		first, second := tokens.DefaultScopes(), tokens.NewScopes(tokens.CloudPlatform)
		var requested []tokens.Scopes
		p := New(Options{Identity: n, Scopes: []tokens.Scopes{first, second}, Tokens: scopesSource(func(s tokens.Scopes) error {
			if requested = append(requested, s); len(requested) == 2 {
				return &tokens.Error{Kind: tokens.Unavailable}
			}
			return nil
		})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := p.Run(ctx); err != nil || !reflect.DeepEqual(requested, []tokens.Scopes{first, second, second}) {
			t.Errorf("requested %v, %v", requested, err)
		}
	})
}

// scopesSource is a source whose tokens depend on the scopes only. The function gets
// the scopes of each request, and returns its error.
type scopesSource func(tokens.Scopes) error

func (f scopesSource) AccessToken(_ context.Context, _ identity.Workload, s tokens.Scopes) (tokens.Token, error) {
	return tokens.NewToken("ya29.x", time.Now().Add(time.Hour)), f(s)
}

func (scopesSource) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, errors.New("the audience is not known")
}

func TestPrefetch_RequestsTokenAfterLinkChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("app", "a@x"))
		run(t, n)
		time.Sleep(startupSpread)
		n.set(linked("app", "b@x"))
		synctest.Wait()
		if got := n.requests(); !slices.Equal(got, []string{"a@x", "b@x"}) {
			t.Errorf("requested %v", got)
		}
	})
}

func TestPrefetch_SpreadsAndLimitsPodsAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{duration: time.Second}
		var pods []identity.Workload
		for i := range 100 {
			pods = append(pods, linked(fmt.Sprint(i), fmt.Sprint(i)))
		}
		n.set(pods...)
		run(t, n)
		if got := len(n.requests()); got > 10 {
			t.Errorf("%d requests at once, want at most 10", got)
		}
		time.Sleep(time.Minute)
		if got := len(n.requests()); got != 100 || n.maxRunning != concurrency {
			t.Errorf("%d requests, %d at a time; want 100, %d", got, n.maxRunning, concurrency)
		}
	})
}

func TestPrefetch_OrdersByLastUseThenNewest(t *testing.T) {
	for _, duration := range []time.Duration{0, 3 * time.Second} { // fewer than the limit at a time, and more
		synctest.Test(t, func(t *testing.T) {
			n := &node{duration: duration, lastUse: map[string]time.Time{}}
			now := time.Now()
			var pods []identity.Workload
			for i := range 10 {
				pods = append(pods, linked(fmt.Sprint("new-", i), fmt.Sprint("new-", i)))
			}
			for i := range 20 {
				gsa := fmt.Sprint("used-", i)
				pods, n.lastUse[gsa] = append(pods, linked(gsa, gsa)), now.Add(-time.Duration(7*i%20)*time.Minute)
			}
			n.set(pods...)
			run(t, n)
			time.Sleep(time.Minute)
			want := make([]string, 0, 30)
			for ago := range 20 {
				want = append(want, fmt.Sprint("used-", 3*ago%20)) // 3 times 7 is 1 modulo 20
			}
			for i := range 10 {
				want = append(want, fmt.Sprint("new-", i))
			}
			if got := n.requests(); !slices.Equal(got, want) {
				t.Errorf("requested %v\nwant      %v", got, want)
			}
		})
	}
}

func TestPrefetch_NodesAreOutOfStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, seen := time.Now(), map[time.Duration]bool{}
		var nodes []*node
		for range 10 {
			n := &node{}
			for i := range 5 {
				n.pods = append(n.pods, linked(fmt.Sprint(i), fmt.Sprint(i)))
			}
			nodes = append(nodes, n)
			run(t, n)
		}
		time.Sleep(startupSpread)
		synctest.Wait()
		for _, n := range nodes {
			if len(n.requestTimes) != 5 {
				t.Fatalf("%d of 5 requests in %s", len(n.requestTimes), startupSpread)
			}
			for i, at := range n.requestTimes {
				slot, after := startupSpread/5, at.Sub(start)
				if after < time.Duration(i)*slot || after > time.Duration(i+1)*slot {
					t.Errorf("request %d after %s, want it in its slot", i, after)
				}
				seen[after.Round(time.Millisecond)] = true
			}
		}
		if len(seen) < 40 {
			t.Errorf("50 requests in %d different milliseconds, want at least 40", len(seen))
		}
	})
}

func TestPrefetch_WaitsForAllPodsAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		n := &node{notReady: errors.New("later"), lastUse: map[string]time.Time{"b": now, "a": now.Add(-time.Hour)}}
		n.set(linked("a", "a"))
		run(t, n)
		time.Sleep(startupSpread - time.Millisecond)
		n.set(linked("a", "a"), linked("b", "b"))
		synctest.Wait()
		if got := n.requests(); len(got) != 0 {
			t.Errorf("requested %v before all pods were known", got)
		}
		n.mu.Lock()
		n.notReady = nil
		n.mu.Unlock()
		n.Raise()
		time.Sleep(startupSpread)
		synctest.Wait()
		if got := n.requests(); !slices.Equal(got, []string{"b", "a"}) {
			t.Errorf("requested %v", got)
		}
		n.set(linked("a", "a"), linked("b", "b"), linked("c", "c"))
		synctest.Wait()
		if got := n.requests(); !slices.Equal(got, []string{"b", "a", "c"}) {
			t.Errorf("the token of a pod that is bound after the start is not requested at once: %v", got)
		}
	})
}

func TestPrefetch_UnknownNamespaceDelaysOthersOnlyBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{notReady: errors.New("never")}
		n.set(linked("a", "a"))
		run(t, n)
		time.Sleep(2 * startupSpread)
		synctest.Wait()
		n.set(linked("a", "a"), linked("b", "b"))
		time.Sleep(startupSpread)
		synctest.Wait()
		if got := n.requests(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("requested %v", got)
		}
	})
}

func TestPrefetch_RetriesTransientFailuresOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{failure: func(gsa string) error {
			if gsa == "refused" {
				return &tokens.Error{Kind: tokens.Denied, Message: "no"}
			}
			return &tokens.Error{Kind: tokens.Unavailable, Message: "later"}
		}}
		n.set(linked("a", "refused"), linked("b", "down"))
		run(t, n)
		time.Sleep(10 * time.Minute)
		refused, down := 0, 0
		for _, gsa := range n.requests() {
			if gsa == "refused" {
				refused++
			} else {
				down++
			}
		}
		if refused != 1 || down < 8 || down > 20 {
			t.Errorf("%d requests for a refused token, want 1; %d in 10 minutes for an unavailable one, want 8 to 20", refused, down)
		}

		n.mu.Lock()
		n.failure = nil
		n.mu.Unlock()
		time.Sleep(maxBackoff)
		before := len(n.requests())
		time.Sleep(time.Hour)
		if after := len(n.requests()); after != before {
			t.Errorf("%d requests after the token was there", after-before)
		}
	})
}

func TestPrefetch_StopsWhenPodHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{failure: func(string) error { return &tokens.Error{Kind: tokens.Unavailable, Message: "later"} }}
		n.set(linked("a", "a@x"))
		run(t, n)
		time.Sleep(time.Minute)
		n.set()
		synctest.Wait()
		before := len(n.requests())
		time.Sleep(time.Hour)
		if after := len(n.requests()); after != before {
			t.Errorf("%d requests for a pod that has gone", after-before)
		}
	})
}

// forgotten are the GSAs whose refusals were forgotten.
type forgotten []string

func (f *forgotten) ForgetRefusals(w identity.Workload) { *f = append(*f, w.GSA) }

// A refusal that no pod has asked for must not answer a pod.
func TestPrefetch_ForgetsRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("refused", "refused@x"), linked("ready", "ready@x"))
		var f forgotten
		p := New(Options{Identity: n, Refusals: &f, Scopes: []tokens.Scopes{tokens.DefaultScopes()}, Tokens: workloadSource(func(w identity.Workload) error {
			if w.GSA == "refused@x" {
				return &tokens.Error{Kind: tokens.Denied}
			}
			return nil
		})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.Run(ctx); err != nil || !slices.Equal(f, []string{"refused@x"}) {
			t.Errorf("forgotten %v, %v", f, err)
		}
	})
}

// workloadSource is a source whose errors depend on the workload only.
type workloadSource func(identity.Workload) error

func (f workloadSource) AccessToken(_ context.Context, w identity.Workload, _ tokens.Scopes) (tokens.Token, error) {
	return tokens.NewToken("ya29.x", time.Now().Add(time.Hour)), f(w)
}

func (workloadSource) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, errors.New("the audience is not known")
}

// Refusals of the prefetch are not cached for the pods, so they must not be repeated for
// each new pod.
func TestPrefetch_RequestsRefusedTokenOnceForAllPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		var workloads []identity.Workload
		for i := range 100 {
			w := linked(fmt.Sprint("pod-", i), "refused@x")
			w.KSA.UID = "cart"
			workloads = append(workloads, w)
		}
		n.set(workloads...)
		var requests atomic.Int64
		p := New(Options{Identity: n, Refusals: &forgotten{}, Scopes: []tokens.Scopes{tokens.DefaultScopes()}, Tokens: workloadSource(func(identity.Workload) error {
			requests.Add(1)
			return &tokens.Error{Kind: tokens.Denied}
		})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		// Pods of the start are spread over five seconds, and several can be in flight.
		if got := requests.Load(); got < 1 || got > 2*concurrency {
			t.Errorf("%d requests for 100 pods", got)
		}
	})
}
