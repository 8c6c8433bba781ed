package identity

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	"k8s.io/client-go/tools/cache"
)

const (
	node   = "node-1"
	nodeIP = "192.0.2.1"
	gsa    = "cart@shop-project.iam.gserviceaccount.com"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks the reason of an error, and that its text contains all of texts.
func wantError(t *testing.T, err error, reason Reason, texts ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error for the reason %s", err, reason)
	}
	if e.Reason != reason {
		t.Errorf("reason %s, want %s: %s", e.Reason, reason, e)
	}
	for _, text := range texts {
		if !strings.Contains(e.Error(), text) {
			t.Errorf("%s\nlacks %q", e, text)
		}
	}
}

// newPod returns a pod that runs as the KSA default of its namespace, with changes.
func newPod(namespace, name, ip string, changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid of " + name)},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, HostIP: nodeIP, PodIP: ip},
	}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func phase(p corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Status.Phase = p }
}

func deleting(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{Time: time.Now()} }

func hostNetwork(pod *corev1.Pod) { pod.Spec.HostNetwork = true }

// sandbox sets the condition for the pod's sandbox.
func sandbox(status corev1.ConditionStatus) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(pod.Status.Conditions,
			corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse},
			corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: status})
	}
}

func ips(ips ...string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		for _, ip := range ips {
			pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
		}
	}
}

// newAccount returns a KSA, with annotations as pairs of key and value.
func newAccount(namespace, name string, annotations ...string) *metav1.PartialObjectMetadata {
	account := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid of KSA " + name)},
	}
	for i := 0; i < len(annotations); i += 2 {
		metav1.SetMetaDataAnnotation(&account.ObjectMeta, annotations[i], annotations[i+1])
	}
	return account
}

func newMetadata(objects ...runtime.Object) *metadatafake.FakeMetadataClient {
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		panic(err)
	}
	return metadatafake.NewSimpleMetadataClient(scheme, objects...)
}

// podsClient reads pods from a fake clientset.
type podsClient struct{ *fake.Clientset }

func (p podsClient) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return p.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (p podsClient) WatchPods(node string) cache.ListerWatcher {
	pods, selector := p.CoreV1().Pods(metav1.NamespaceAll), fields.OneTermEqualSelector("spec.nodeName", node).String()
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return pods.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return pods.Watch(ctx, o)
		},
	}, p.Clientset)
}

// fixture is a resolver with fake API clients, in a synctest bubble.
type fixture struct {
	*Kubernetes
	t        *testing.T
	pods     *fake.Clientset
	metadata *metadatafake.FakeMetadataClient
	attestor attestor // of all callers; nil if only their addresses are known
	stop     context.CancelFunc
	stopped  chan error
}

// newFixture returns a resolver of pods and KSAs that does not run yet.
func newFixture(t *testing.T, objects ...runtime.Object) *fixture {
	t.Helper()
	var pods, accounts []runtime.Object
	for _, object := range objects {
		if pod, ok := object.(*corev1.Pod); ok {
			pods = append(pods, pod)
		} else {
			accounts = append(accounts, object)
		}
	}
	b := &fixture{t: t, pods: fake.NewClientset(pods...), metadata: newMetadata(accounts...), stopped: make(chan error, 1)}
	b.Kubernetes = must(NewKubernetes(KubernetesOptions{Node: node, Pods: podsClient{b.pods}, Metadata: b.metadata}))
	return b
}

// run runs the resolver until the test ends, and waits until it is ready.
func (b *fixture) run() *fixture {
	b.t.Helper()
	var ctx context.Context
	ctx, b.stop = context.WithCancel(b.t.Context())
	go func() { b.stopped <- b.Run(ctx) }()
	b.t.Cleanup(b.stop)
	time.Sleep(time.Second)
	synctest.Wait()
	check(b.t, b.Ready())
	return b
}

// from returns a connection from an address.
func from(ip string) Connection {
	return Connection{Remote: netip.AddrPortFrom(netip.MustParseAddr(ip), 40000), Local: netip.MustParseAddrPort("169.254.169.254:80")}
}

// attestor attests the caller of a connection, as the kernel does.
type attestor interface {
	Attest(context.Context, Connection) (Caller, error)
}

// attestedConn is a connection whose caller an attestor attests.
type attestedConn struct {
	attestor
	Connection
}

func (c attestedConn) Caller() (Caller, error) {
	return c.Attest(context.Background(), c.Connection)
}

// podAt looks up the pod at an address, and waits for up to a second.
func (b *fixture) podAt(ip string) (Pod, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
	defer cancel()
	conn := from(ip)
	if b.attestor != nil {
		conn.Attested = attestedConn{b.attestor, conn}
	}
	return b.Pod(ctx, conn)
}

func (b *fixture) wantPodAt(ip, name string) Pod {
	b.t.Helper()
	pod, err := b.podAt(ip)
	if err != nil || pod.Name != name || pod.UID != "uid of "+name {
		b.t.Errorf("pod at %s is %q (%s), %v, want %s", ip, pod.Name, pod.UID, err, name)
	}
	return pod
}

// workload looks up the workload of a pod, and waits for up to a second.
func (b *fixture) workload(pod Pod) (Workload, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
	defer cancel()
	return b.Workload(ctx, pod)
}

func (b *fixture) create(pod *corev1.Pod) {
	b.t.Helper()
	must(b.pods.CoreV1().Pods(pod.Namespace).Create(b.t.Context(), pod, metav1.CreateOptions{}))
	synctest.Wait()
}

func (b *fixture) update(pod *corev1.Pod) {
	b.t.Helper()
	must(b.pods.CoreV1().Pods(pod.Namespace).Update(b.t.Context(), pod, metav1.UpdateOptions{}))
	synctest.Wait()
}

func (b *fixture) delete(pod *corev1.Pod) {
	b.t.Helper()
	check(b.t, b.pods.CoreV1().Pods(pod.Namespace).Delete(b.t.Context(), pod.Name, metav1.DeleteOptions{}))
	synctest.Wait()
}
