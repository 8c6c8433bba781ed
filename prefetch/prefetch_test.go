package prefetch

import (
	"context"
	"errors"
	"fmt"
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
	takes  time.Duration
	fails  func(gsa string) error
	asked  []string // GSAs
	most   int      // at a time
	during int
}

func (n *node) Changed() <-chan struct{} { return n.Next() }

func (n *node) Workloads() []identity.Workload {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.pods)
}

func (n *node) set(pods ...identity.Workload) {
	n.mu.Lock()
	n.pods = pods
	n.mu.Unlock()
	n.Raise()
}

func (n *node) AccessToken(ctx context.Context, w identity.Workload, s tokens.Scopes) (tokens.Token, error) {
	n.mu.Lock()
	n.asked = append(n.asked, w.GSA)
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
	p := New(Options{Identity: n, Tokens: n})
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
