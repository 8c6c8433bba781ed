package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"gke-metadata-emulator/server"
)

// facts are what the settings say of this node.
func (p Project) facts(node string) server.Facts {
	return server.Facts{
		ProjectID: p.ID, NumericProjectID: p.Number, WorkloadPool: p.WorkloadPool, UniverseDomain: p.UniverseDomain,
		InstanceID: instanceID(p.ID, p.ClusterName, p.ClusterLocation, node),
		Hostname:   node + "." + p.Zone + ".c." + p.dotted() + ".internal",
		Zone:       p.Zone, ClusterName: p.ClusterName, ClusterLocation: p.ClusterLocation,
	}
}

// dotted is the project's ID as it stands in names: example.com:proj, a project of
// a domain, is proj.example.com there.
func (p Project) dotted() string {
	if domain, id, scoped := strings.Cut(p.ID, ":"); scoped {
		return id + "." + domain
	}
	return p.ID
}

// instanceID is a number like Compute Engine's, the same at every start.
func instanceID(of ...string) string {
	sum := sha256.New()
	for _, part := range of {
		sum.Write([]byte(strconv.Quote(part)))
	}
	return strconv.FormatUint(binary.BigEndian.Uint64(sum.Sum(nil))>>1|1<<62, 10)
}

// clusterUID is the UID of the kube-system namespace, which is a cluster's as GKE
// says it; empty until the API server has told it.
type clusterUID struct {
	client kubernetes.Interface
	uid    atomic.Pointer[string]
	failed prometheus.Counter
	log    *slog.Logger
}

func newClusterUID(client kubernetes.Interface, registry prometheus.Registerer, log *slog.Logger) *clusterUID {
	c := &clusterUID{client: client, log: log, failed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gme_cluster_uid_errors_total",
		Help: "Failed reads of the kube-system namespace, whose UID is the cluster's.",
	})}
	registry.MustRegister(c.failed)
	return c
}

func (c *clusterUID) get() string {
	if uid := c.uid.Load(); uid != nil {
		return *uid
	}
	return ""
}

// run asks until it is told or ctx ends.
func (c *clusterUID) run(ctx context.Context) error {
	return retry(ctx, func(ctx context.Context) error {
		namespace, err := c.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		if err != nil {
			c.failed.Inc()
			c.log.Warn("the cluster's UID could not be read, it is tried again", "error", err)
			return err
		}
		uid := string(namespace.UID)
		c.uid.Store(&uid)
		return nil
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
