package identity

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"gke-metadata-emulator/internal/change"
)

// sweep is how often namespaces that are no longer in use are looked for.
const sweep = time.Minute

// Pods is what the API server says of pods (core/v1).
type Pods interface {
	// Pod reads one: the answer is as new as the store itself.
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	// PodsOf lists and watches those of a node.
	PodsOf(node string) cache.ListerWatcher
}

// KubernetesOptions configures a [Kubernetes] resolver. All but Log, Metrics and Now
// are required.
type KubernetesOptions struct {
	Node     string // the node whose pods may call
	Pods     Pods
	Metadata metadata.Interface // for service accounts: list, watch
	Now      func() time.Time   // time.Now where nil
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Kubernetes resolves callers from the API server's watches: the pods of one node,
// and the service accounts of the namespaces that they are in.
type Kubernetes struct {
	node     string
	pods     *podWatch
	accounts *accountWatches
	confirm  *confirmer
	events   change.Signal
	work     chan struct{} // holds a value when the namespaces in use may have changed
	metrics  *metrics
	log      *slog.Logger
}

// NewKubernetes makes a resolver that knows nothing until [Kubernetes.Run] runs.
func NewKubernetes(o KubernetesOptions) (*Kubernetes, error) {
	if o.Node == "" {
		return nil, errors.New("identity: no node name")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	k := &Kubernetes{node: o.Node, work: make(chan struct{}, 1), metrics: newMetrics(o.Metrics), log: o.Log}
	k.confirm = &confirmer{pods: o.Pods, now: o.Now, count: func(result string) { k.metrics.confirmations.WithLabelValues(result).Inc() }}
	k.accounts = newAccountWatches(o.Metadata, o.Now, k.events.Raise, k.watchFailed("serviceaccounts"))
	k.metrics.namespaces(o.Metrics, k.accounts.count)
	var err error
	k.pods, err = newPodWatch(o.Pods.PodsOf(o.Node), k.podsChanged, k.watchFailed("pods"))
	return k, err
}

// Run keeps the watches until ctx ends, and returns when all of them have.
func (k *Kubernetes) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer k.accounts.wait()
	podsDone := make(chan struct{})
	go func() {
		defer close(podsDone)
		k.pods.informer.RunWithContext(ctx)
	}()
	defer func() { <-podsDone }()
	defer stop() // also where it is an error that ends the rest
	if cache.WaitForCacheSync(ctx.Done(), k.pods.informer.HasSynced) {
		k.podsChanged() // an empty node has no event to tell that its list has come
	}
	ticker := time.NewTicker(sweep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.work:
		case <-ticker.C:
		}
		if !k.pods.informer.HasSynced() {
			continue
		}
		if err := k.accounts.follow(ctx, k.pods.namespaces()); err != nil {
			return err
		}
	}
}

// Ready returns nil when the pods of the node and their service accounts are
// known, and an error that says what is missing before that.
func (k *Kubernetes) Ready() error {
	if !k.pods.informer.HasSynced() {
		return failf(NotReady, "the pods of node %s have not been read from the API server yet", k.node)
	}
	for _, ns := range k.pods.namespaces() {
		if !k.accounts.synced(ns) {
			return failf(NotReady, "the service accounts of namespace %s have not been read from the API server yet", ns)
		}
	}
	return nil
}

// Pod finds the pod that opened conn. It waits until ctx ends for a pod that the
// watch has not announced. Its errors are of type [*Error].
func (k *Kubernetes) Pod(ctx context.Context, conn Connection) (Pod, error) {
	caller, err := conn.caller(ctx)
	if err != nil {
		return Pod{}, k.counted(err)
	}
	pod, err := await(ctx, &k.events, func() (*corev1.Pod, error) { return k.find(ctx, caller) })
	if err != nil {
		return Pod{}, k.counted(err)
	}
	k.metrics.resolutions.WithLabelValues("ok").Inc()
	return podOf(pod), nil
}

func (k *Kubernetes) find(ctx context.Context, caller Caller) (*corev1.Pod, error) {
	if !k.pods.informer.HasSynced() {
		return nil, failf(NotReady, "the pods of node %s have not been read from the API server yet: ask again", k.node)
	}
	if caller.PodUID != "" {
		return k.attested(caller)
	}
	candidates := k.pods.withIP(caller.IP)
	if len(candidates) == 0 && k.pods.isHost(caller.IP) {
		return nil, hostNetworkError(caller.IP)
	}
	var holders []*corev1.Pod
	for _, pod := range candidates {
		if k.confirm.holds(ctx, pod, caller.IP) {
			holders = append(holders, pod)
		}
	}
	if caller.Unrecorded {
		for _, pod := range holders {
			if !hidesSockets(pod) {
				return nil, failf(Unattested, "the kernel has no record that pod %s/%s, whose address %s is, opened this connection: "+
					"who can send packets of his own making can have any address. A pod whose runtime keeps its sockets to itself has a runtimeClassName",
					pod.Namespace, pod.Name, caller.IP)
			}
		}
	}
	switch len(holders) {
	case 0:
		return nil, failf(Unknown, "no pod on node %s has the address %s (yet): if this is a pod of the node, ask again; "+
			"identities are given to pods only", k.node, caller.IP)
	case 1:
		return holders[0], nil
	}
	return nil, ambiguous(caller.IP, holders)
}

func ambiguous(ip netip.Addr, pods []*corev1.Pod) *Error {
	names := make([]string, len(pods))
	for i, pod := range pods {
		names[i] = pod.Namespace + "/" + pod.Name
	}
	return failf(Ambiguous, "the address %s is claimed by more than one pod (%s), so that the caller cannot be told: delete the one that has ended", ip, strings.Join(names, ", "))
}

// Workload reads what the KSA of a pod says now. It waits until ctx ends for a KSA
// that the watch has not announced. Its errors are of type [*Error].
func (k *Kubernetes) Workload(ctx context.Context, of Pod) (Workload, error) {
	return await(ctx, &k.events, func() (Workload, error) {
		pod := k.pods.withUID(of.UID)
		if pod == nil {
			return Workload{}, k.counted(failf(Gone, "pod %s/%s has ended", of.Namespace, of.Name))
		}
		return k.workload(pod, of)
	})
}

func (k *Kubernetes) workload(pod *corev1.Pod, of Pod) (Workload, error) {
	name := pod.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	account, err := k.accounts.get(pod.Namespace, name)
	if err != nil {
		return Workload{}, err
	}
	w := Workload{Pod: of, KSA: ServiceAccount{Namespace: account.Namespace, Name: account.Name, UID: string(account.UID)}}
	err = w.annotated(account.Annotations)
	return w, err
}

func (k *Kubernetes) podsChanged() {
	select {
	case k.work <- struct{}{}:
	default: // a look is due already
	}
	k.events.Raise()
}

func (k *Kubernetes) watchFailed(resource string) func(error) {
	return func(err error) {
		k.metrics.watchErrors.WithLabelValues(resource).Inc()
		k.log.Warn("watch of the API server failed, it is tried again", "resource", resource, "error", err)
	}
}

func (k *Kubernetes) counted(err error) error {
	var e *Error
	if errors.As(err, &e) {
		k.metrics.resolutions.WithLabelValues(string(e.Reason)).Inc()
	}
	return err
}
