package identity

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	ktesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
)

// gap ends a watch after which events are missed.
type gap struct {
	name string
	end  func(*watch.FakeWatcher)
}

func gaps() []gap {
	expired := apierrors.NewResourceExpired("too old resource version").Status()
	return []gap{
		{"expired in the stream", func(w *watch.FakeWatcher) { w.Error(&expired) }},
		{"closed, and expired when opened again", func(w *watch.FakeWatcher) { w.Stop() }},
	}
}

// The informer makes a tombstone of a missed delete at the next list.
func TestTombstone_MissedDeleteIsSeenInNextList(t *testing.T) {
	for _, gap := range gaps() {
		t.Run(gap.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gone := newPod("shop", "gone", "10.0.0.1")
				b := newFixture(t, gone, newPod("shop", "stays", "10.0.0.2"), newAccount("shop", "default", AnnotationGSA, gsa), newAccount("shop", "stays"))
				podWatches, accountWatches := b.watches("pods"), b.watches("serviceaccounts")
				b.run()
				var tombstones atomic.Int32
				count := cache.ResourceEventHandlerFuncs{DeleteFunc: func(o any) {
					if _, ok := o.(cache.DeletedFinalStateUnknown); ok {
						tombstones.Add(1)
					}
				}}
				must(b.Kubernetes.pods.informer.AddEventHandler(count))
				must(b.accounts.watches["shop"].informer.AddEventHandler(count))
				pod, stays := b.wantPodAt("10.0.0.1", "gone"), b.wantPodAt("10.0.0.2", "stays")
				must(b.workload(pod))

				b.delete(gone) // the watch does not report it
				check(t, b.metadata.Resource(serviceAccounts).Namespace("shop").Delete(t.Context(), "default", metav1.DeleteOptions{}))
				must(b.workload(pod))
				gap.end((*podWatches)[0])
				gap.end((*accountWatches)[0])
				time.Sleep(time.Minute) // the informers pause before they list again
				synctest.Wait()

				if got := tombstones.Load(); got != 2 {
					t.Errorf("%d tombstones, want those of the pod and of the KSA", got)
				}
				_, err := b.podAt("10.0.0.1")
				wantError(t, err, Unknown)
				_, err = b.workload(pod)
				wantError(t, err, Gone)
				_, err = b.workload(stays)
				wantError(t, err, NotReady, "service account shop/default does not exist (yet)")
				b.wantPodAt("10.0.0.2", "stays")
			})
		})
	}
}

// A KSA that is deleted and created again has another UID. Its pods keep running.
func TestAccount_RecreatedAccountIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, newPod("shop", "app", "10.0.0.1"), newAccount("shop", "default", AnnotationGSA, gsa)).run()
		pod := b.wantPodAt("10.0.0.1", "app")
		if w := must(b.workload(pod)); w.GSA != gsa || w.KSA.UID != "uid of KSA default" {
			t.Errorf("workload %+v", w)
		}
		accounts := b.metadata.Resource(serviceAccounts).Namespace("shop")
		check(t, accounts.Delete(t.Context(), "default", metav1.DeleteOptions{}))
		synctest.Wait()
		_, err := b.workload(pod)
		wantError(t, err, NotReady)
		recreated := newAccount("shop", "default", AnnotationGSA, "other@p.iam.gserviceaccount.com")
		recreated.UID = "another"
		check(t, b.metadata.Tracker().Create(serviceAccounts, recreated, "shop"))
		synctest.Wait()
		if w := must(b.workload(pod)); w.GSA != "other@p.iam.gserviceaccount.com" || w.KSA.UID != "another" {
			t.Errorf("workload %+v", w)
		}
	})
}

func TestTombstone_PassesTransforms(t *testing.T) {
	tombstone := cache.DeletedFinalStateUnknown{Key: "shop/app", Obj: newPod("shop", "app", "10.0.0.1")}
	for name, transform := range map[string]cache.TransformFunc{"pods": slimPod, "service accounts": parseAccount} {
		if got, err := transform(tombstone); err != nil || got != any(tombstone) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if values, err := indexPods(alive, ownIPs)(tombstone); err != nil || values != nil {
		t.Errorf("indexed as %v, %v", values, err)
	}
}

// watches replaces the watches of a resource by watches that the test controls, and
// returns the opened ones. When the first one has ended, the resource version is too old
// to continue.
func (b *fixture) watches(resource string) *[]*watch.FakeWatcher {
	opened := &[]*watch.FakeWatcher{}
	react := func(ktesting.Action) (bool, watch.Interface, error) {
		if len(*opened) == 1 && (*opened)[0].IsStopped() {
			*opened = append(*opened, nil)
			return true, nil, apierrors.NewResourceExpired("too old resource version")
		}
		w := watch.NewFake()
		*opened = append(*opened, w)
		return true, w, nil
	}
	if resource == "pods" {
		b.pods.PrependWatchReactor(resource, react)
	} else {
		b.metadata.PrependWatchReactor(resource, react)
	}
	return opened
}
