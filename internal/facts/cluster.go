package facts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/internal/backoff"
	"gke-metadata-emulator/server"
)

// clusterReader is the part of the API server that has facts (core/v1).
type clusterReader interface {
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
	Node(ctx context.Context, name string) (*corev1.Node, error)
}

// clusterFacts are the facts that only the API server knows.
type clusterFacts struct {
	client   clusterReader
	facts    *Facts
	readUID  bool
	readZone bool
	zone     zone
	failures *prometheus.CounterVec
	log      *slog.Logger
}

func newClusterFacts(o Options, facts *Facts, zone zone) *clusterFacts {
	c := &clusterFacts{
		client: o.Cluster, facts: facts, readUID: o.ClusterUID == "", readZone: o.ZoneFromNode, zone: zone, log: o.Log,
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_fact_errors_total",
			Help: "Failed reads of facts from the API server, by fact: cluster-uid or zone. They are retried.",
		}, []string{"fact"}),
	}
	o.Metrics.MustRegister(c.failures)
	return c
}

// run reads each fact once, and ends with that or with ctx.
func (c *clusterFacts) run(ctx context.Context) {
	var group errgroup.Group
	if c.readUID {
		group.Go(func() error { c.read(ctx, "cluster-uid", c.clusterUID); return nil })
	}
	if c.readZone {
		group.Go(func() error { c.read(ctx, "zone", c.nodeZone); return nil })
	}
	_ = group.Wait()
}

// ClusterUID derives the cluster's ID from the UID of its namespace kube-system. GKE
// reports the ID of its own API, which is no UUID but 64 hexadecimal digits: see the
// test data of elastic/assetbeat, input/k8s/util_test.go.
func ClusterUID(kubeSystemUID string) string {
	sum := sha256.Sum256([]byte(kubeSystemUID))
	return hex.EncodeToString(sum[:])
}

// clusterUID reads the UID of the namespace kube-system.
func (c *clusterFacts) clusterUID(ctx context.Context) error {
	namespace, err := c.client.Namespace(ctx, metav1.NamespaceSystem)
	if err != nil {
		return err
	}
	c.facts.set(func(f *server.Facts) { f.ClusterUID = ClusterUID(string(namespace.UID)) })
	return nil
}

// nodeZone reads the zone from the node's label.
func (c *clusterFacts) nodeZone(ctx context.Context) error {
	node, err := c.client.Node(ctx, c.zone.node)
	if err != nil {
		return err
	}
	c.facts.set(c.zone.apply(cmp.Or(node.Labels[corev1.LabelTopologyZone], c.zone.fallback)))
	return nil
}

// read retries until the fact has been read or ctx ends.
func (c *clusterFacts) read(ctx context.Context, fact string, attempt func(context.Context) error) {
	failures := c.failures.WithLabelValues(fact)
	backoff.Retry(ctx, func(ctx context.Context) error {
		err := attempt(ctx)
		if err != nil {
			failures.Inc()
			c.log.Warn("cannot read a fact from the API server; retrying", "fact", fact, "error", err)
		}
		return err
	})
}
