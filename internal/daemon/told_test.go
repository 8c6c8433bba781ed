package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"gke-metadata-emulator/server"
)

func TestTheAPIServerIsAskedUntilItTells(t *testing.T) {
	project := Project{ID: "prod-project", Zone: "europe-west1-a"}
	labelled := map[string]string{corev1.LabelTopologyZone: "rack-7"}
	for name, test := range map[string]struct {
		labels map[string]string
		ask    func(*told, context.Context) error
		want   server.Facts
	}{
		"cluster-uid": {nil, (*told).clusterUID, server.Facts{ClusterUID: "the-uid"}},
		"zone": {labelled, func(told *told, ctx context.Context) error { return told.zone(ctx, project) },
			server.Facts{Zone: "rack-7", Hostname: "node-1.rack-7.c.prod-project.internal"}},
		"zone of a node without label": {nil, func(told *told, ctx context.Context) error { return told.zone(ctx, project) },
			server.Facts{Zone: "europe-west1-a", Hostname: "node-1.europe-west1-a.c.prod-project.internal"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := cluster{fake.NewClientset(
					&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "the-uid"}},
					&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: test.labels}},
				)}
				failures := 3
				client.PrependReactor("get", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
					failures--
					return failures >= 0, nil, errors.New("no API server")
				})
				facts := &facts{}
				told := newTold(client, "node-1", facts, prometheus.NewRegistry(), discard)
				changed := facts.changed.Next()
				start := time.Now()
				if err := test.ask(told, t.Context()); err != nil {
					t.Error(err)
				}
				select {
				case <-changed:
				default:
					t.Error("nobody who waits is woken")
				}
				if got := facts.get(); got.ClusterUID != test.want.ClusterUID || got.Zone != test.want.Zone || got.Hostname != test.want.Hostname {
					t.Errorf("%+v, want %+v", got, test.want)
				}
				if got := testutil.ToFloat64(told.failed); got != 3 {
					t.Errorf("%v failures are counted, want 3", got)
				}
				// 0.5 s, 1 s and 2 s, each with up to half of it again.
				if took := time.Since(start); took < 3500*time.Millisecond || took > 5250*time.Millisecond {
					t.Errorf("three failures cost %s", took)
				}
			})
		})
	}
}
