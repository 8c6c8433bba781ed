package prefetch

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/change"
	"gke-metadata-emulator/tokens"
)

// node has pods, and a Google that takes its time.
type node struct {
	change.Signal
	mu     sync.Mutex
	pods   []identity.Workload
	slow   error                // why not all pods are known
	used   map[string]time.Time // by GSA
	takes  time.Duration
	fails  func(gsa string) error
	asked  []string // GSAs
	at     []time.Time
	most   int // at a time
	during int
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
	return n.slow
}

func (n *node) LastUse(w identity.Workload, s tokens.Scopes) time.Time {
	if !slices.Equal(s, tokens.DefaultScopes()) {
		return time.Time{}
	}
	return n.used[w.GSA]
}

func (n *node) set(pods ...identity.Workload) {
	n.mu.Lock()
	n.pods = pods
	n.mu.Unlock()
	n.Raise()
}

func (n *node) AccessToken(ctx context.Context, w identity.Workload, s tokens.Scopes) (tokens.Token, error) {
	n.mu.Lock()
	n.asked, n.at = append(n.asked, w.GSA), append(n.at, time.Now())
	n.during++
	n.most = max(n.most, n.during)
	fails := n.fails
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.during--
		n.mu.Unlock()
	}()
	select {
	case <-time.After(n.takes):
	case <-ctx.Done():
		return tokens.Token{}, ctx.Err()
	}
	if !slices.Equal(s, tokens.DefaultScopes()) {
		return tokens.Token{}, fmt.Errorf("scopes %v", s)
	}
	if fails != nil {
		return tokens.Token{}, fails(w.GSA)
	}
	return tokens.NewToken("ya29.x", time.Now().Add(time.Hour)), nil
}

func (n *node) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, errors.New("nobody knows for which audience")
}

func (n *node) calls() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
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

func TestANewPodsTokenIsAskedForAtOnceAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("first", "a@x"))
		run(t, n)
		time.Sleep(spread)
		n.set(linked("first", "a@x"), linked("second", "b@x"), linked("unlinked", ""))
		synctest.Wait()
		if got := n.calls(); !slices.Equal(got, []string{"a@x", "b@x"}) {
			t.Errorf("asked for %v", got)
		}
		n.set(linked("first", "a@x"), linked("second", "b@x"))
		time.Sleep(time.Hour)
		if got := len(n.calls()); got != 2 {
			t.Errorf("%d calls, want 2", got)
		}
	})
}

func TestEachSetOfScopesIsAnotherToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("app", "a@x"))
		var asked []tokens.Scopes
		sets := []tokens.Scopes{tokens.DefaultScopes(), tokens.NewScopes(tokens.CloudPlatform)}
		p := New(Options{Identity: n, Tokens: scoped(func(s tokens.Scopes) error { asked = append(asked, s); return nil }), Scopes: sets})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := p.Run(ctx); err != nil || !reflect.DeepEqual(asked, sets) {
			t.Errorf("asked for %v, %v", asked, err)
		}
	})
}

func TestATokenThatIsThereIsNotAskedForAgainBecauseAnotherIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("app", "a@x"))
		first, second := tokens.DefaultScopes(), tokens.NewScopes(tokens.CloudPlatform)
		var asked []tokens.Scopes
		p := New(Options{Identity: n, Scopes: []tokens.Scopes{first, second}, Tokens: scoped(func(s tokens.Scopes) error {
			if asked = append(asked, s); len(asked) == 2 {
				return &tokens.Error{Kind: tokens.Unavailable}
			}
			return nil
		})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := p.Run(ctx); err != nil || !reflect.DeepEqual(asked, []tokens.Scopes{first, second, second}) {
			t.Errorf("asked for %v, %v", asked, err)
		}
	})
}

// scoped is a source that is told which scopes it is asked for, and says what is wrong.
type scoped func(tokens.Scopes) error

func (f scoped) AccessToken(_ context.Context, _ identity.Workload, s tokens.Scopes) (tokens.Token, error) {
	return tokens.NewToken("ya29.x", time.Now().Add(time.Hour)), f(s)
}

func (scoped) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, errors.New("nobody knows for which audience")
}

func TestAnotherLinkIsAnotherToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("app", "a@x"))
		run(t, n)
		time.Sleep(spread)
		n.set(linked("app", "b@x"))
		synctest.Wait()
		if got := n.calls(); !slices.Equal(got, []string{"a@x", "b@x"}) {
			t.Errorf("asked for %v", got)
		}
	})
}

func TestPodsThatAreThereAtTheStartAreSpreadAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{takes: time.Second}
		var pods []identity.Workload
		for i := range 100 {
			pods = append(pods, linked(fmt.Sprint(i), fmt.Sprint(i)))
		}
		n.set(pods...)
		run(t, n)
		if got := len(n.calls()); got > 10 {
			t.Errorf("%d calls at once", got)
		}
		time.Sleep(time.Minute)
		if got := len(n.calls()); got != 100 || n.most != concurrent {
			t.Errorf("%d calls, %d at a time; want 100, %d", got, n.most, concurrent)
		}
	})
}

func TestThoseWhoseTokensWereUsedLastComeFirstAndOfTheOthersTheNewest(t *testing.T) {
	for _, takes := range []time.Duration{0, 3 * time.Second} { // eight at a time, or fewer
		synctest.Test(t, func(t *testing.T) {
			n := &node{takes: takes, used: map[string]time.Time{}}
			now := time.Now()
			var pods []identity.Workload
			for i := range 10 {
				pods = append(pods, linked(fmt.Sprint("new-", i), fmt.Sprint("new-", i)))
			}
			for i := range 20 {
				gsa := fmt.Sprint("used-", i)
				pods, n.used[gsa] = append(pods, linked(gsa, gsa)), now.Add(-time.Duration(7*i%20)*time.Minute)
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
			if got := n.calls(); !slices.Equal(got, want) {
				t.Errorf("asked for %v\nwant      %v", got, want)
			}
		})
	}
}

func TestNodesThatStartAtOnceAreNotInStep(t *testing.T) {
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
		time.Sleep(spread)
		synctest.Wait()
		for _, n := range nodes {
			if len(n.at) != 5 {
				t.Fatalf("%d of 5 calls in %s", len(n.at), spread)
			}
			for i, at := range n.at {
				turn, after := spread/5, at.Sub(start)
				if after < time.Duration(i)*turn || after > time.Duration(i+1)*turn {
					t.Errorf("call %d after %s", i, after)
				}
				seen[after.Round(time.Millisecond)] = true
			}
		}
		if len(seen) < 40 {
			t.Errorf("50 calls in %d different milliseconds", len(seen))
		}
	})
}

func TestTheOrderIsThatOfAllPodsHoweverTheyBecomeKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		n := &node{slow: errors.New("later"), used: map[string]time.Time{"b": now, "a": now.Add(-time.Hour)}}
		n.set(linked("a", "a"))
		run(t, n)
		time.Sleep(spread - time.Millisecond)
		n.set(linked("a", "a"), linked("b", "b"))
		synctest.Wait()
		if got := n.calls(); len(got) != 0 {
			t.Errorf("asked for %v before all pods were known", got)
		}
		n.mu.Lock()
		n.slow = nil
		n.mu.Unlock()
		n.Raise()
		time.Sleep(spread)
		synctest.Wait()
		if got := n.calls(); !slices.Equal(got, []string{"b", "a"}) {
			t.Errorf("asked for %v", got)
		}
		n.set(linked("a", "a"), linked("b", "b"), linked("c", "c"))
		synctest.Wait()
		if got := n.calls(); !slices.Equal(got, []string{"b", "a", "c"}) {
			t.Errorf("a pod that is bound after the start does not come at once: %v", got)
		}
	})
}

func TestANamespaceThatStaysUnknownKeepsTheOthersWaitingForSecondsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{slow: errors.New("never")}
		n.set(linked("a", "a"))
		run(t, n)
		time.Sleep(2 * spread)
		synctest.Wait()
		n.set(linked("a", "a"), linked("b", "b"))
		time.Sleep(spread)
		synctest.Wait()
		if got := n.calls(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("asked for %v", got)
		}
	})
}

func TestWhatPassesIsTriedAgainAndARefusalIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{fails: func(gsa string) error {
			if gsa == "refused" {
				return &tokens.Error{Kind: tokens.Denied, Message: "no"}
			}
			return &tokens.Error{Kind: tokens.Unavailable, Message: "later"}
		}}
		n.set(linked("a", "refused"), linked("b", "down"))
		run(t, n)
		time.Sleep(10 * time.Minute)
		refused, down := 0, 0
		for _, gsa := range n.calls() {
			if gsa == "refused" {
				refused++
			} else {
				down++
			}
		}
		if refused != 1 || down < 8 || down > 20 {
			t.Errorf("asked %d times for what is refused, %d times in 10 minutes for what is down", refused, down)
		}

		n.mu.Lock()
		n.fails = nil
		n.mu.Unlock()
		time.Sleep(maxPause)
		before := len(n.calls())
		time.Sleep(time.Hour)
		if after := len(n.calls()); after != before {
			t.Errorf("asked %d times after it had a token", after-before)
		}
	})
}

func TestAPodThatHasGoneIsNotAskedForAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{fails: func(string) error { return &tokens.Error{Kind: tokens.Unavailable, Message: "later"} }}
		n.set(linked("a", "a@x"))
		run(t, n)
		time.Sleep(time.Minute)
		n.set()
		synctest.Wait()
		before := len(n.calls())
		time.Sleep(time.Hour)
		if after := len(n.calls()); after != before {
			t.Errorf("asked %d times for a pod that has gone", after-before)
		}
	})
}
