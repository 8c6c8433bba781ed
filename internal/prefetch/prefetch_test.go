package prefetch

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

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
		p := New(Options{Identity: n, Tokens: source(func(_ identity.Workload, s tokens.Scopes) error { requested = append(requested, s); return nil }), Scopes: sets})
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
		p := New(Options{Identity: n, Scopes: []tokens.Scopes{first, second}, Tokens: source(func(_ identity.Workload, s tokens.Scopes) error {
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

func TestPrefetch_RequestsTokenAfterLinkChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("app", "a@x"))
		run(t, n)
		time.Sleep(startupSpread)
		n.set(linked("app", "b@x"))
		synctest.Wait()
		delegated := linked("app", "b@x")
		delegated.Delegates = "c@x"
		n.set(delegated)
		synctest.Wait()
		if got := n.requests(); !slices.Equal(got, []string{"a@x", "b@x", "b@x"}) {
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
