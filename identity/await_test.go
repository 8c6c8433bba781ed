package identity

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gke-metadata-emulator/internal/change"
)

func TestAwait_SeesEventBetweenLookupAndWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s change.Signal
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		lookups := 0
		got, err := await(ctx, &s, func() (int, error) {
			if lookups++; lookups == 1 {
				s.Raise() // just after the lookup, and no event follows
				return 0, errorf(NotReady, "not yet")
			}
			return lookups, nil
		})
		if err != nil || got != 2 {
			t.Errorf("%d, %v", got, err)
		}
	})
}

// In real time, for the race detector.
func TestAwait_NoWaiterMissesEvent(t *testing.T) {
	const events = 500
	var s change.Signal
	var now atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			for want := int64(i); want <= events; want += 97 {
				if _, err := await(ctx, &s, func() (int64, error) {
					if got := now.Load(); got < want {
						return 0, errorf(Unknown, "at %d, not %d", got, want)
					}
					return want, nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range events {
		now.Add(1)
		s.Raise()
	}
	all.Wait()
}

func TestAwait_EndsAtDeadlineWithLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s change.Signal
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() {
			for range 3 {
				time.Sleep(time.Second)
				s.Raise()
			}
		}()
		lookups, start := 0, time.Now()
		_, err := await(ctx, &s, func() (int, error) { lookups++; return 0, errorf(NotReady, "lookup %d", lookups) })
		wantError(t, err, NotReady, "lookup 4")
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("after %s", waited)
		}
	})
}

func TestAwait_WaitsOnlyForTemporaryErrors(t *testing.T) {
	resolvable := map[Reason]bool{NotReady: true, Unknown: true, Ambiguous: true}
	for _, reason := range []Reason{NotReady, Unknown, Ambiguous, HostNetwork, NotListed, Gone, BadAnnotation} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			start := time.Now()
			_, err := await(ctx, new(change.Signal), func() (int, error) { return 0, fmt.Errorf("wrapped: %w", errorf(reason, "")) })
			wantError(t, err, reason)
			if waited := time.Since(start) > 0; waited != resolvable[reason] {
				t.Errorf("%s: waited %t", reason, waited)
			}
		})
	}
}

// A KSA that the watch has not announced is an error, not an empty workload.
func TestAccount_WaitsForAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, newPod("shop", "app", "10.0.0.1", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "cart" })).run()
		pod := b.wantPodAt("10.0.0.1", "app")
		w, err := b.workload(pod)
		wantError(t, err, NotReady, "service account shop/cart does not exist (yet)", "kubectl create serviceaccount --namespace shop cart")
		if w != (Workload{}) {
			t.Errorf("workload %+v", w)
		}
		go func() {
			time.Sleep(500 * time.Millisecond)
			check(t, b.metadata.Tracker().Create(serviceAccounts, newAccount("shop", "cart", AnnotationGSA, gsa), "shop"))
		}()
		start := time.Now()
		w, err = b.workload(pod)
		check(t, err)
		want := Workload{Pod: pod, KSA: ServiceAccount{Namespace: "shop", Name: "cart", UID: "uid of KSA cart"}, GSA: gsa}
		if waited := time.Since(start); w != want || waited != 500*time.Millisecond {
			t.Errorf("after %s: %+v, want %+v", waited, w, want)
		}
	})
}

func TestAnnotations_ChangeAppliesToNextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, newPod("shop", "app", "10.0.0.1"), newAccount("shop", "default")).run()
		pod := b.wantPodAt("10.0.0.1", "app")
		for _, gsa := range []string{"", gsa, "other@p.iam.gserviceaccount.com", ""} {
			check(t, b.metadata.Tracker().Update(serviceAccounts, newAccount("shop", "default", AnnotationGSA, gsa), "shop"))
			synctest.Wait()
			if w, err := b.workload(pod); err != nil || w.GSA != gsa {
				t.Errorf("%q, %v, want %q", w.GSA, err, gsa)
			}
		}
		check(t, b.metadata.Tracker().Update(serviceAccounts, newAccount("shop", "default", AnnotationGSA, "nonsense"), "shop"))
		synctest.Wait()
		start := time.Now()
		_, err := b.workload(pod)
		wantError(t, err, BadAnnotation)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("it took %s", waited)
		}
	})
}

func TestKubernetes_IsNotReadyBeforeFirstList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, newPod("shop", "app", "10.0.0.1"), newAccount("shop", "default"))
		wantError(t, b.Ready(), NotReady, node)
		_, err := b.podAt("10.0.0.1")
		wantError(t, err, NotReady, "the pods of node "+node+" have not been read")
	})
}
