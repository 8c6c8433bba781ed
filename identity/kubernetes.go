package identity

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"gke-metadata-emulator/internal/change"
)

// unusedCheckInterval is how often the resolver checks for namespaces that have been
// unused for [watchRetention].
const unusedCheckInterval = time.Minute

// Pods reads pods (core/v1) from the API server.
type Pods interface {
	// Pod reads a pod from the store, not from a cache.
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	// WatchPods lists and watches the pods of a node.
	WatchPods(node string) cache.ListerWatcher
}

// KubernetesOptions configures a [Kubernetes] resolver. All but Log, Metrics and Now
// are required.
type KubernetesOptions struct {
	Node     string // the node whose pods may call
	Pods     Pods
	Metadata metadata.Interface // for service accounts: list, watch
	Now      func() time.Time   // default: time.Now
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Kubernetes resolves callers from the API server's watches: the pods of one node, and the
// service accounts of their namespaces. Its fields are constant, and all methods are safe
// for concurrent use.
type Kubernetes struct {
	node     string
	pods     *podWatch
	accounts *accountWatches
	verifier *podVerifier
	events   change.Signal
	recheck  chan struct{} // has a value if the namespaces in use can have changed; Run receives it
	metrics  *metrics
	log      *slog.Logger
}

// NewKubernetes returns a resolver that is not ready until [Kubernetes.Run] runs.
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
	k := &Kubernetes{node: o.Node, recheck: make(chan struct{}, 1), metrics: newMetrics(o.Metrics), log: o.Log}
	k.verifier = &podVerifier{pods: o.Pods, now: o.Now, countResult: func(result string) { k.metrics.confirmations.WithLabelValues(result).Inc() }}
	k.accounts = newAccountWatches(o.Metadata, o.Now, k.events.Raise, k.watchFailed("serviceaccounts"))
	k.metrics.namespaces(o.Metrics, k.accounts.count)
	var err error
	k.pods, err = newPodWatch(o.Pods.WatchPods(o.Node), k.podsChanged, k.watchFailed("pods"))
	return k, err
}

// Run watches until ctx ends, and returns when all watches have ended.
func (k *Kubernetes) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer k.accounts.wait()
	podsDone := make(chan struct{})
	go func() {
		defer close(podsDone)
		k.pods.informer.RunWithContext(ctx)
	}()
	defer func() { <-podsDone }()
	defer stop() // also after an error
	if cache.WaitForCacheSync(ctx.Done(), k.pods.informer.HasSynced) {
		k.podsChanged() // the list of an empty node raises no event
	}
	ticker := time.NewTicker(unusedCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.recheck:
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

// Ready returns nil if the pods of the node and their service accounts are known, and an
// error that names the missing ones if not.
func (k *Kubernetes) Ready() error {
	if !k.pods.informer.HasSynced() {
		return errorf(NotReady, "the pods of node %s have not been read from the API server yet", k.node)
	}
	for _, ns := range k.pods.namespaces() {
		if !k.accounts.synced(ns) {
			return errorf(NotReady, "the service accounts of namespace %s have not been read from the API server yet", ns)
		}
	}
	return nil
}

// Pod finds the pod that opened conn. It waits until ctx ends for a pod that the
// watch has not announced. Its errors are of type [*Error].
func (k *Kubernetes) Pod(ctx context.Context, conn Connection) (Pod, error) {
	caller, err := conn.caller()
	if err != nil {
		return Pod{}, k.countFailure(err)
	}
	pod, err := await(ctx, &k.events, func() (*corev1.Pod, error) { return k.lookupPod(ctx, caller) })
	if err != nil {
		return Pod{}, k.countFailure(err)
	}
	k.metrics.resolutions.WithLabelValues("ok").Inc()
	return callerPod(pod), nil
}

func (k *Kubernetes) lookupPod(ctx context.Context, caller Caller) (*corev1.Pod, error) {
	if !k.pods.informer.HasSynced() {
		return nil, errorf(NotReady, "the pods of node %s have not been read from the API server yet: retry", k.node)
	}
	if caller.PodUID != "" {
		return k.attestedPod(caller)
	}
	candidates := k.pods.withIP(caller.IP)
	if len(candidates) == 0 && k.pods.isHost(caller.IP) {
		return nil, hostNetworkError(caller.IP)
	}
	var owners []*corev1.Pod
	for _, pod := range candidates {
		if k.verifier.stillOwnsIP(ctx, pod, caller.IP) {
			owners = append(owners, pod)
		}
	}
	if caller.Unrecorded {
		for _, pod := range owners {
			if !hidesSockets(pod) {
				return nil, errorf(Unattested, "the kernel has no record that pod %s/%s opened this connection from its address %s, and the address alone can be spoofed: "+
					"set runtimeClassName if the pod's runtime keeps its sockets to itself (gVisor, Kata)",
					pod.Namespace, pod.Name, caller.IP)
			}
		}
	}
	switch len(owners) {
	case 0:
		return nil, errorf(Unknown, "no pod on node %s has the address %s (yet): if the caller is a pod of the node, retry; "+
			"only pods get an identity", k.node, caller.IP)
	case 1:
		return owners[0], nil
	}
	return nil, ambiguous(caller.IP, owners)
}

func ambiguous(ip netip.Addr, pods []*corev1.Pod) *Error {
	names := make([]string, len(pods))
	for i, pod := range pods {
		names[i] = pod.Namespace + "/" + pod.Name
	}
	return errorf(Ambiguous, "the address %s is claimed by more than one pod (%s), and the caller cannot be identified by it: delete the pod that has ended", ip, strings.Join(names, ", "))
}

// Workload reads the KSA of a pod. It waits until ctx ends for a KSA that the watch has
// not announced. Its errors are of type [*Error].
func (k *Kubernetes) Workload(ctx context.Context, caller Pod) (Workload, error) {
	return await(ctx, &k.events, func() (Workload, error) {
		pod := k.pods.withUID(caller.UID)
		if pod == nil {
			return Workload{}, k.countFailure(errorf(Gone, "pod %s/%s has ended", caller.Namespace, caller.Name))
		}
		return k.workload(pod, caller)
	})
}

func (k *Kubernetes) workload(pod *corev1.Pod, caller Pod) (Workload, error) {
	name := pod.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	account, err := k.accounts.get(pod.Namespace, name)
	if err != nil {
		return Workload{}, err
	}
	w := account.workload
	w.Pod = caller
	return w, account.err
}

// Workloads returns the workloads of the node's pods that have not ended, newest pod first.
// Pods whose KSA is not known or has an invalid annotation are left out.
// [Kubernetes.Changed] reports changes.
func (k *Kubernetes) Workloads() []Workload {
	var pods []*corev1.Pod
	for _, o := range k.pods.informer.GetStore().List() {
		if pod, ok := o.(*corev1.Pod); ok && alive(pod) {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	var list []Workload
	for _, pod := range pods {
		if w, err := k.workload(pod, callerPod(pod)); err == nil {
			list = append(list, w)
		}
	}
	return list
}

// Changed returns a channel that the cluster's next event closes.
func (k *Kubernetes) Changed() <-chan struct{} { return k.events.Next() }

func (k *Kubernetes) podsChanged() {
	select {
	case k.recheck <- struct{}{}:
	default: // a check is pending already
	}
	k.events.Raise()
}

func (k *Kubernetes) watchFailed(resource string) func(error) {
	return func(err error) {
		k.metrics.watchErrors.WithLabelValues(resource).Inc()
		k.log.Warn("watch of the API server failed; retrying", "resource", resource, "error", err)
	}
}

func (k *Kubernetes) countFailure(err error) error {
	var e *Error
	if errors.As(err, &e) {
		k.metrics.resolutions.WithLabelValues(string(e.Reason)).Inc()
	}
	return err
}
