package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"gke-metadata-emulator/server"
)

// clusterReader is the API server, which knows namespaces and nodes (core/v1).
type clusterReader interface {
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
	Node(ctx context.Context, name string) (*corev1.Node, error)
}

// told is what the API server tells of the cluster and the node.
type told struct {
	client clusterReader
	node   string
	facts  *facts
	failed *prometheus.CounterVec
	log    *slog.Logger
}

func newTold(client clusterReader, node string, facts *facts, registry prometheus.Registerer, log *slog.Logger) *told {
	t := &told{client: client, node: node, facts: facts, log: log, failed: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_fact_errors_total",
		Help: "Failed reads from the API server, by what could not be read: the cluster's UID or the node's zone.",
	}, []string{"fact"})}
	registry.MustRegister(t.failed)
	return t
}

// clusterUID is the UID of the kube-system namespace, which is a cluster's as GKE
// says it.
func (t *told) clusterUID(ctx context.Context) error {
	return t.ask(ctx, "cluster-uid", func(ctx context.Context) error {
		namespace, err := t.client.Namespace(ctx, metav1.NamespaceSystem)
		if err != nil {
			return err
		}
		t.facts.learn(func(f *server.Facts) { f.ClusterUID = string(namespace.UID) })
		return nil
	})
}

// zone is the node's by its label, or else the one that follows from the settings.
func (t *told) zone(ctx context.Context, p Project) error {
	return t.ask(ctx, "zone", func(ctx context.Context) error {
		node, err := t.client.Node(ctx, t.node)
		if err != nil {
			return err
		}
		zone := cmp.Or(node.Labels[corev1.LabelTopologyZone], p.Zone)
		t.facts.learn(func(f *server.Facts) { f.Zone, f.Hostname = zone, p.hostname(t.node, zone) })
		return nil
	})
}

// ask calls f with a deadline until it succeeds or ctx ends.
func (t *told) ask(ctx context.Context, fact string, f func(context.Context) error) error {
	failed := t.failed.WithLabelValues(fact)
	return retry(ctx, func(ctx context.Context) error {
		err := f(ctx)
		if err != nil {
			failed.Inc()
			t.log.Warn("a fact could not be read from the API server, it is tried again", "fact", fact, "error", err)
		}
		return err
	})
}

// retry calls f with a deadline until it succeeds or ctx ends, with a jittered
// back-off of 0.5 s to 30 s. It fails only with its context, which is no failure.
func retry(ctx context.Context, f func(context.Context) error) error {
	backoff := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 7, Cap: 30 * time.Second}
	_ = backoff.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return f(ctx) == nil, nil
	})
	return nil
}
