package identity

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata/fake"
	ktesting "k8s.io/client-go/testing"
)

// countWatches returns a function that counts the open watches by namespace.
func countWatches(client *fake.FakeMetadataClient) func() map[string]int {
	type opened struct {
		namespace string
		watch     *watch.RaceFreeFakeWatcher
	}
	var all []opened
	client.PrependWatchReactor("serviceaccounts", func(action ktesting.Action) (bool, watch.Interface, error) {
		w := watch.NewRaceFreeFake()
		all = append(all, opened{action.GetNamespace(), w})
		return true, w, nil
	})
	return func() map[string]int {
		synctest.Wait()
		open := map[string]int{}
		for _, o := range all {
			if !o.watch.IsStopped() {
				open[o.namespace]++
			}
		}
		return open
	}
}

func TestAccountWatches_OutliveUseByRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newMetadata(newAccount("ci", "builder"))
		open := countWatches(client)
		a := newAccountWatches(client, time.Now, func() {}, func(err error) { t.Error(err) })
		follow := func(inUse []string, watched ...string) {
			t.Helper()
			check(t, a.follow(t.Context(), inUse))
			time.Sleep(time.Second)
			want := map[string]int{}
			for _, ns := range watched {
				want[ns] = 1
			}
			if got := open(); !maps.Equal(got, want) || a.count() != len(want) {
				t.Errorf("watches of %v (%d counted), want %v", got, a.count(), want)
			}
		}
		follow(nil)
		follow([]string{"shop", "ci"}, "shop", "ci")
		if _, err := a.get("ci", "builder"); err != nil || !a.synced("ci") || !a.synced("shop") {
			t.Errorf("not synced, or %v", err)
		}
		follow([]string{"shop"}, "shop", "ci") // unused from now on
		time.Sleep(watchRetention - 5*time.Second)
		follow([]string{"shop"}, "shop", "ci")
		follow([]string{"shop", "ci"}, "shop", "ci") // used again
		time.Sleep(watchRetention)
		follow([]string{"shop"}, "shop", "ci") // its retention starts again
		time.Sleep(watchRetention - 5*time.Second)
		follow([]string{"shop"}, "shop", "ci")
		time.Sleep(5 * time.Second)
		follow([]string{"shop"}, "shop")
		_, err := a.get("ci", "builder")
		wantError(t, err, NotReady, "namespace ci have not been read")
		if a.synced("ci") {
			t.Error("a namespace that is not watched is synced")
		}
		follow([]string{"shop", "ci"}, "shop", "ci")
		if _, err := a.get("ci", "builder"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		follow(nil, "shop", "ci")
		time.Sleep(watchRetention)
		follow(nil)
		a.wait()
	})
}

// No event reports that the retention of a watch has ended: the periodic check does.
func TestKubernetes_StopsWatchOfUnusedNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		build, job := newPod("ci", "build", "10.0.0.2"), newPod("ci", "job", "10.0.0.3", phase("Succeeded"))
		b := newFixture(t, newPod("shop", "app", "10.0.0.1"), build, job)
		open := countWatches(b.metadata)
		b.run()
		if got := open(); !maps.Equal(got, map[string]int{"shop": 1, "ci": 1}) {
			t.Errorf("watches of %v", got)
		}
		b.delete(build) // the finished job does not count
		time.Sleep(watchRetention - time.Second)
		if got := open(); len(got) != 2 {
			t.Errorf("watches of %v before the retention has ended", got)
		}
		time.Sleep(unusedCheckInterval + 2*time.Second)
		if got := open(); !maps.Equal(got, map[string]int{"shop": 1}) {
			t.Errorf("watches of %v after the retention has ended", got)
		}
	})
}

func TestKubernetes_ReadsOnlyNodesPodsAndNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		b := newFixture(t, newPod("shop", "app", "10.0.0.1"), newPod("shop", "app-2", "10.0.0.2"), newPod("ci", "build", "10.0.0.3"), newAccount("elsewhere", "default"))
		b.Kubernetes = must(NewKubernetes(KubernetesOptions{Node: node, Pods: podsClient{b.pods}, Metadata: b.metadata, Metrics: registry}))
		b.run()
		for _, action := range b.pods.Actions() {
			if list, ok := action.(ktesting.ListActionImpl); ok && list.ListRestrictions.Fields.String() != "spec.nodeName="+node {
				t.Errorf("%s of pods with %q", list.Verb, list.ListRestrictions.Fields)
			}
			if w, ok := action.(ktesting.WatchActionImpl); ok && w.WatchRestrictions.Fields.String() != "spec.nodeName="+node {
				t.Errorf("%s of pods with %q", w.Verb, w.WatchRestrictions.Fields)
			}
		}
		var namespaces []string
		for _, action := range b.metadata.Actions() {
			namespaces = append(namespaces, action.GetVerb()+" "+action.GetNamespace())
		}
		slices.Sort(namespaces)
		if want := []string{"list ci", "list shop", "watch ci", "watch shop"}; !slices.Equal(namespaces, want) {
			t.Errorf("requests for service accounts: %v, want %v", namespaces, want)
		}
		if got, err := testutil.GatherAndCount(registry, "gme_identity_watched_namespaces"); got != 1 || err != nil {
			t.Errorf("%d gauges, %v", got, err)
		}
	})
}

func TestKubernetes_IsReadyWithoutPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { newFixture(t).run() })
}
