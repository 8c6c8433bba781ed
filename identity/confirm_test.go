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

// store is an API server with one pod, or an error instead. Its answer is the state at
// the start of the request.
type store struct {
	mu      sync.Mutex
	pod     *corev1.Pod
	err     error
	latency time.Duration
	calls   int
	running int
	peak    int // most calls at once
}

func (s *store) WatchPods(string) cache.ListerWatcher { panic("the verifier reads single pods") }

func (s *store) Pod(ctx context.Context, _, _ string) (*corev1.Pod, error) {
	s.mu.Lock()
	s.calls++
	s.running++
	s.peak = max(s.peak, s.running)
	pod, err, latency := s.pod, s.err, s.latency
	s.mu.Unlock()
	defer s.set(func(s *store) { s.running-- })
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

// newPodVerifier returns a verifier and its counted results.
func newPodVerifier(s *store) (*podVerifier, map[string]int) {
	var mu sync.Mutex
	results := map[string]int{}
	return &podVerifier{pods: s, now: time.Now, countResult: func(result string) {
		mu.Lock()
		defer mu.Unlock()
		results[result]++
	}}, results
}

func TestPodVerifier_FollowsStore(t *testing.T) {
	for name, test := range map[string]struct {
		stored *corev1.Pod
		err    error
		ip     string
		owns   bool
		result string
	}{
		"same as in the watch":    {confirmed, nil, "10.0.0.1", true, "held"},
		"its second address":      {confirmed, nil, "2001:db8::1", true, "held"},
		"terminating":             {newPod("shop", "app", "10.0.0.1", deleting), nil, "10.0.0.1", true, "held"},
		"deleted":                 {nil, gone, "10.0.0.1", false, "gone"},
		"created again":           {newPod("shop", "app", "10.0.0.1", func(p *corev1.Pod) { p.UID = "another" }), nil, "10.0.0.1", false, "gone"},
		"succeeded":               {newPod("shop", "app", "10.0.0.1", phase(corev1.PodSucceeded)), nil, "10.0.0.1", false, "gone"},
		"failed":                  {newPod("shop", "app", "10.0.0.1", phase(corev1.PodFailed)), nil, "10.0.0.1", false, "gone"},
		"its sandbox has ended":   {newPod("shop", "app", "10.0.0.1", deleting, sandbox(corev1.ConditionFalse)), nil, "10.0.0.1", false, "gone"},
		"it has another address":  {newPod("shop", "app", "10.0.0.2"), nil, "10.0.0.1", false, "gone"},
		"it has no address":       {newPod("shop", "app", ""), nil, "10.0.0.1", false, "gone"},
		"it is in the host's net": {newPod("shop", "app", "10.0.0.1", hostNetwork), nil, "10.0.0.1", false, "gone"},
		"error":                   {nil, apierrors.NewInternalError(errors.New("etcd")), "10.0.0.1", true, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			c, results := newPodVerifier(&store{pod: test.stored, err: test.err})
			if owned := c.stillOwnsIP(t.Context(), confirmed, netip.MustParseAddr(test.ip)); owned != test.owns || results[test.result] != 1 || len(results) != 1 {
				t.Errorf("owned %t, counted %v, want %t, %s", owned, results, test.owns, test.result)
			}
		})
	}
}

// The pod can be deleted between the request and the connection.
func TestPodVerifier_DoesNotUseOlderRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{pod: confirmed, latency: 100 * time.Millisecond}
		c, _ := newPodVerifier(s)
		var both sync.WaitGroup
		both.Go(func() {
			if !c.stillOwnsIP(t.Context(), confirmed, address) {
				t.Error("a pod that existed when its connection was opened does not own its address")
			}
		})
		time.Sleep(50 * time.Millisecond)
		s.set(func(s *store) { s.pod, s.err = nil, gone })
		both.Go(func() {
			if c.stillOwnsIP(t.Context(), confirmed, address) {
				t.Error("a connection that was opened after the pod was deleted is taken for the pod's")
			}
		})
		both.Wait()
		if s.calls != 2 {
			t.Errorf("the store was asked %d times", s.calls)
		}
	})
}

func TestPodVerifier_SharesRequestsForPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{pod: confirmed, latency: 100 * time.Millisecond}
		c, _ := newPodVerifier(s)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond / 2)
				if !c.stillOwnsIP(t.Context(), confirmed, address) {
					t.Error("the pod does not own its address")
				}
			})
		}
		all.Wait()
		if s.peak != 1 || s.calls != 2 {
			t.Errorf("%d calls, %d at once, want the first and one for all later connections", s.calls, s.peak)
		}
	})
}

func TestPodVerifier_ConfirmsPodsIndependently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{pod: confirmed, latency: 100 * time.Millisecond}
		c, _ := newPodVerifier(s)
		var both sync.WaitGroup
		for _, pod := range []*corev1.Pod{confirmed, newPod("shop", "other", "10.0.0.2")} {
			both.Go(func() { c.stillOwnsIP(t.Context(), pod, address) })
		}
		both.Wait()
		if s.peak != 2 {
			t.Errorf("%d calls at once", s.peak)
		}
	})
}

func TestPodVerifier_PausesAfterErrorAndTrustsWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{err: apierrors.NewServiceUnavailable("no leader")}
		c, results := newPodVerifier(s)
		wantOwned := func(want bool, calls int) {
			t.Helper()
			if owned := c.stillOwnsIP(t.Context(), confirmed, address); owned != want || s.calls != calls {
				t.Errorf("owned %t after %d calls, want %t after %d", owned, s.calls, want, calls)
			}
		}
		wantOwned(true, 1)
		s.set(func(s *store) { s.err = gone })
		time.Sleep(confirmPause - time.Millisecond)
		wantOwned(true, 1)
		time.Sleep(time.Millisecond)
		wantOwned(false, 2)
		if results["unavailable"] != 2 || results["gone"] != 1 {
			t.Errorf("counted %v", results)
		}
	})
}

func TestPodVerifier_BoundsWaitForAPIServer(t *testing.T) {
	for name, test := range map[string]struct{ deadline, want time.Duration }{
		"its own deadline":      {time.Minute, confirmTimeout},
		"connection's deadline": {100 * time.Millisecond, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := newPodVerifier(&store{latency: time.Hour})
				ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
				defer cancel()
				start := time.Now()
				owned := c.stillOwnsIP(ctx, confirmed, address)
				if waited := time.Since(start); waited != test.want || owned != (test.want == confirmTimeout) {
					t.Errorf("owned %t after %s, want after %s", owned, waited, test.want)
				}
				time.Sleep(confirmTimeout) // the request ends even if no caller waits
			})
		})
	}
}
