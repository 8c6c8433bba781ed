package facts

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/server"
)

// fakeCluster fails a number of times.
type fakeCluster struct {
	failures  int
	namespace corev1.Namespace
	node      corev1.Node
}

func (c *fakeCluster) fail() error {
	if c.failures--; c.failures >= 0 {
		return errors.New("no API server")
	}
	return nil
}

func (c *fakeCluster) Namespace(_ context.Context, name string) (*corev1.Namespace, error) {
	if name != c.namespace.Name {
		return nil, errors.New("no such namespace: " + name)
	}
	return &c.namespace, c.fail()
}

func (c *fakeCluster) Node(_ context.Context, name string) (*corev1.Node, error) {
	if name != c.node.Name {
		return nil, errors.New("no such node: " + name)
	}
	return &c.node, c.fail()
}

func TestClusterFacts_AreReadUntilItSucceeds(t *testing.T) {
	labelled := map[string]string{corev1.LabelTopologyZone: "rack-7"}
	for name, test := range map[string]struct {
		labels map[string]string
		change func(*Options)
		want   server.Facts
	}{
		"cluster-uid": {nil, func(o *Options) { o.ZoneFromNode = false },
			server.Facts{ClusterUID: "b9c6e9ee629894478b72601e3d50a5451901839e8e6d8f6f8b9cd25cc5377a7c", Zone: "europe-west1-a", Hostname: "node-1.europe-west1-a.c.prod-project.internal"}},
		"zone": {labelled, func(o *Options) { o.ClusterUID = "known" },
			server.Facts{ClusterUID: "known", Zone: "rack-7", Hostname: "node-1.rack-7.c.prod-project.internal"}},
		"zone of a node without label": {nil, func(o *Options) { o.ClusterUID = "known" },
			server.Facts{ClusterUID: "known", Zone: "europe-west1-a", Hostname: "node-1.europe-west1-a.c.prod-project.internal"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := options()
				o.Zone = "europe-west1-a"
				o.Cluster = &fakeCluster{
					failures:  3,
					namespace: corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "the-uid"}},
					node:      corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: test.labels}},
				}
				test.change(&o)
				facts := New(o)
				changed := facts.Changed()
				start := time.Now()
				if err := facts.Run(t.Context()); err != nil {
					t.Error(err)
				}
				select {
				case <-changed:
				default:
					t.Error("waiters are not woken")
				}
				if got := facts.Get(); got.ClusterUID != test.want.ClusterUID || got.Zone != test.want.Zone || got.Hostname != test.want.Hostname {
					t.Errorf("%+v, want %+v", got, test.want)
				}
				if got := testutil.ToFloat64(facts.cluster.failures); got != 3 {
					t.Errorf("%v failures are counted, want 3", got)
				}
				// 0.5 s, 1 s and 2 s, each plus up to half of it.
				if took := time.Since(start); took < 3500*time.Millisecond || took > 5250*time.Millisecond {
					t.Errorf("three failures cost %s", took)
				}
			})
		})
	}
}

func TestClusterFacts_EndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Cluster = &fakeCluster{failures: 1 << 20, namespace: corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system"}}}
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		if err := New(o).Run(ctx); err != nil || ctx.Err() == nil {
			t.Errorf("error %v before the context's end (%v)", err, ctx.Err())
		}
	})
}
