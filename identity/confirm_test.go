package identity

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// store is an API server that has one pod, or an error in its place. It answers
// with what it had when it was asked.
type store struct {
	mu      sync.Mutex
	pod     *corev1.Pod
	err     error
	latency time.Duration
	calls   int
	atOnce  int
	most    int // calls at once
}

func (s *store) PodsOf(string) cache.ListerWatcher { panic("only single pods are asked for") }

func (s *store) Pod(ctx context.Context, _, _ string) (*corev1.Pod, error) {
	s.mu.Lock()
	s.calls++
	s.atOnce++
	s.most = max(s.most, s.atOnce)
	pod, err, latency := s.pod, s.err, s.latency
	s.mu.Unlock()
	defer s.set(func(s *store) { s.atOnce-- })
	select {
	case <-time.After(latency):
		return pod, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *store) set(change func(*store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

var (
	confirmed = newPod("shop", "app", "10.0.0.1", ips("10.0.0.1", "2001:DB8::1"))
	address   = netip.MustParseAddr("10.0.0.1")
	gone      = apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "app")
)

// newConfirmer makes a confirmer and the results that it counts.
func newConfirmer(s *store) (*confirmer, map[string]int) {
	var mu sync.Mutex
	results := map[string]int{}
	return &confirmer{pods: s, now: time.Now, count: func(result string) {
		mu.Lock()
		defer mu.Unlock()
		results[result]++
	}}, results
}

func TestPodHoldsItsAddressOnlyWhileTheStoreSaysSo(t *testing.T) {
	for name, of := range map[string]struct {
		stored *corev1.Pod
		err    error
		ip     string
		held   bool
		result string
	}{
		"as the watch said":       {confirmed, nil, "10.0.0.1", true, "held"},
		"its second address":      {confirmed, nil, "2001:db8::1", true, "held"},
		"terminating":             {newPod("shop", "app", "10.0.0.1", deleting), nil, "10.0.0.1", true, "held"},
		"deleted":                 {nil, gone, "10.0.0.1", false, "gone"},
		"created anew":            {newPod("shop", "app", "10.0.0.1", func(p *corev1.Pod) { p.UID = "another" }), nil, "10.0.0.1", false, "gone"},
		"succeeded":               {newPod("shop", "app", "10.0.0.1", phase(corev1.PodSucceeded)), nil, "10.0.0.1", false, "gone"},
		"failed":                  {newPod("shop", "app", "10.0.0.1", phase(corev1.PodFailed)), nil, "10.0.0.1", false, "gone"},
		"its sandbox has ended":   {newPod("shop", "app", "10.0.0.1", deleting, sandbox(corev1.ConditionFalse)), nil, "10.0.0.1", false, "gone"},
		"it has another address":  {newPod("shop", "app", "10.0.0.2"), nil, "10.0.0.1", false, "gone"},
		"it has no address":       {newPod("shop", "app", ""), nil, "10.0.0.1", false, "gone"},
		"it is in the host's net": {newPod("shop", "app", "10.0.0.1", hostNetwork), nil, "10.0.0.1", false, "gone"},
		"error":                   {nil, apierrors.NewInternalError(errors.New("etcd")), "10.0.0.1", true, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			c, results := newConfirmer(&store{pod: of.stored, err: of.err})
			if held := c.holds(t.Context(), confirmed, netip.MustParseAddr(of.ip)); held != of.held || results[of.result] != 1 || len(results) != 1 {
				t.Errorf("held %t, counted %v, want %t, %s", held, results, of.held, of.result)
			}
		})
	}
}

// The pod may have gone between the question and the connection.
func TestAnswerThatWasUnderWayBeforeTheConnectionIsNotUsedForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{pod: confirmed, latency: 100 * time.Millisecond}
		c, _ := newConfirmer(s)
		var both sync.WaitGroup
		both.Go(func() {
			if !c.holds(t.Context(), confirmed, address) {
				t.Error("the pod that was there when its connection came does not hold its address")
			}
		})
		time.Sleep(50 * time.Millisecond)
		s.set(func(s *store) { s.pod, s.err = nil, gone })
		both.Go(func() {
			if c.holds(t.Context(), confirmed, address) {
				t.Error("a connection that came after the pod had gone is believed to be the pod's")
			}
		})
		both.Wait()
		if s.calls != 2 {
			t.Errorf("the store was asked %d times", s.calls)
		}
	})
}

func TestStoreIsAskedAtMostOnceAtATimeForAPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{pod: confirmed, latency: 100 * time.Millisecond}
		c, _ := newConfirmer(s)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond / 2)
				if !c.holds(t.Context(), confirmed, address) {
					t.Error("not held")
				}
			})
		}
		all.Wait()
		if s.most != 1 || s.calls != 2 {
			t.Errorf("%d calls, %d at once, want the first and one for all who came later", s.calls, s.most)
		}
	})
}

func TestPodsAreConfirmedIndependently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{pod: confirmed, latency: 100 * time.Millisecond}
		c, _ := newConfirmer(s)
		var both sync.WaitGroup
		for _, pod := range []*corev1.Pod{confirmed, newPod("shop", "other", "10.0.0.2")} {
			both.Go(func() { c.holds(t.Context(), pod, address) })
		}
		both.Wait()
		if s.most != 2 {
			t.Errorf("%d calls at once", s.most)
		}
	})
}

func TestFailingAPIServerIsLeftAloneForSomeSecondsAndTheWatchBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{err: apierrors.NewServiceUnavailable("no leader")}
		c, results := newConfirmer(s)
		wantHeld := func(want bool, calls int) {
			t.Helper()
			if held := c.holds(t.Context(), confirmed, address); held != want || s.calls != calls {
				t.Errorf("held %t after %d calls, want %t after %d", held, s.calls, want, calls)
			}
		}
		wantHeld(true, 1)
		s.set(func(s *store) { s.err = gone })
		time.Sleep(confirmPause - time.Millisecond)
		wantHeld(true, 1)
		time.Sleep(time.Millisecond)
		wantHeld(false, 2)
		if results["unavailable"] != 2 || results["gone"] != 1 {
			t.Errorf("counted %v", results)
		}
	})
}

func TestHangingAPIServerHoldsAConnectionForLittle(t *testing.T) {
	for name, of := range map[string]struct{ deadline, want time.Duration }{
		"its own deadline":      {time.Minute, confirmTimeout},
		"connection's deadline": {100 * time.Millisecond, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := newConfirmer(&store{latency: time.Hour})
				ctx, cancel := context.WithTimeout(t.Context(), of.deadline)
				defer cancel()
				start := time.Now()
				held := c.holds(ctx, confirmed, address)
				if waited := time.Since(start); waited != of.want || held != (of.want == confirmTimeout) {
					t.Errorf("held %t after %s, want after %s", held, waited, of.want)
				}
				time.Sleep(confirmTimeout) // the call ends, whether or not anybody waits
			})
		})
	}
}
