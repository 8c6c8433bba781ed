package integration

import (
	"context"
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gke-metadata-emulator/integration/kubernetes"
)

// daemonOn is a daemon's pod on the node. It returns a kubeconfig with a token that is
// bound to the pod, so the API server knows the node.
func daemonOn(t testing.TB, c *kubernetes.Cluster, node string) string {
	t.Helper()
	pod := c.RunPod(t, kubernetes.PodSpec{Namespace: daemonName, Name: node, KSA: daemonName, Node: node, HostNetwork: true})
	t.Cleanup(func() { c.DeletePod(t, pod) })
	request := tokenRequest(pod)
	request.Spec.Audiences = nil
	granted, err := c.Client.CoreV1().ServiceAccounts(daemonName).CreateToken(t.Context(), daemonName, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path, err := c.KubeconfigFor(t.Context(), daemonName, daemonName)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		user.Token = granted.Status.Token
	}
	path = filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// attackerOn is a client that has stolen the token of the node's daemon.
func attackerOn(t testing.TB, node string) (clientset.Interface, *rest.Config) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", daemonOn(t, cluster, node))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1 // the tests send requests faster than the library's limit
	client, err := clientset.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client, config
}

// tokenRequest is the request that the daemon makes.
func tokenRequest(pod *corev1.Pod) *authenticationv1.TokenRequest {
	seconds := int64(7200)
	return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{"https:" + provider}, ExpirationSeconds: &seconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
}

// A stolen token of the daemon cannot be turned into a token that the API server itself
// accepts.
func TestAdmission_StolenTokenGetsNoAPIServerToken(t *testing.T) {
	node := "admission-tokens"
	cluster.Node(t, node, nil)
	attacker, config := attackerOn(t, node)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", nil)
	run := func(namespace, name, ksa string) *corev1.Pod {
		pod := cluster.RunPod(t, kubernetes.PodSpec{Namespace: namespace, Name: name, KSA: ksa, Node: node})
		t.Cleanup(func() { cluster.DeletePod(t, pod) })
		return pod
	}
	app, other, own := run(ns, "app", "app"), run(ns, "other", "default"), run(daemonName, "own", daemonName)
	cluster.KSA(t, metav1.NamespaceSystem, "controller", nil)
	t.Cleanup(func() { cluster.DeleteKSA(t, metav1.NamespaceSystem, "controller") })
	controller := run(metav1.NamespaceSystem, "controller", "controller")
	secret, err := cluster.Client.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "secret"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	machine, err := cluster.Client.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	audiences := func(all ...string) func(*authenticationv1.TokenRequest) {
		return func(r *authenticationv1.TokenRequest) { r.Spec.Audiences = all }
	}
	bound := func(kind, name string, uid types.UID) func(*authenticationv1.TokenRequest) {
		return func(r *authenticationv1.TokenRequest) {
			r.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: uid}
		}
	}
	withLifetime := func(life time.Duration) func(*authenticationv1.TokenRequest) {
		return func(r *authenticationv1.TokenRequest) { *r.Spec.ExpirationSeconds = int64(life.Seconds()) }
	}
	const granted, policy, server = "granted", "refused by the policy", "refused by the API server"
	for _, test := range []struct {
		name   string
		pod    *corev1.Pod
		change func(*authenticationv1.TokenRequest)
		want   string
	}{
		{"what the daemon asks for", app, func(*authenticationv1.TokenRequest) {}, granted},
		{"a short lifetime", app, withLifetime(10 * time.Minute), granted},
		{"the default lifetime", app, func(r *authenticationv1.TokenRequest) { r.Spec.ExpirationSeconds = nil }, granted},
		{"the default audience", app, audiences(), policy},
		{"the API server's audience", app, audiences(cluster.Issuer), policy},
		{"the API server's usual audience", app, audiences("https://kubernetes.default.svc"), policy},
		{"the API server's audience for the daemon itself", own, audiences(cluster.Issuer), policy},
		{"the provider's and the API server's audience", app, audiences("https:"+provider, cluster.Issuer), policy},
		{"the API server's audience and the provider's", app, audiences(cluster.Issuer, "https:"+provider), policy},
		{"the provider's twice", app, audiences("https:"+provider, "https:"+provider), policy},
		{"an empty audience", app, audiences(""), policy},
		{"another provider's audience", app, audiences("https:" + provider + "-2"), policy},
		{"the provider's name", app, audiences(provider), policy},
		{"the policy's own text", app, audiences("PROVIDER"), policy},
		{"unbound", app, func(r *authenticationv1.TokenRequest) { r.Spec.BoundObjectRef = nil }, policy},
		{"bound to a Secret", app, bound("Secret", secret.Name, secret.UID), policy},
		{"bound to the Node", app, bound("Node", node, machine.UID), policy},
		{"bound to a pod without UID", app, bound("Pod", app.Name, ""), policy},
		{"bound to another pod by its UID", app, bound("Pod", app.Name, other.UID), server},
		{"bound to a pod of another KSA", app, bound("Pod", other.Name, other.UID), server},
		{"bound to a pod that does not exist", app, bound("Pod", "nosuch", app.UID), server},
		{"a lifetime of a day", app, withLifetime(24 * time.Hour), policy},
		{"a lifetime of two hours and a second", app, withLifetime(2*time.Hour + time.Second), policy},
		{"an account of kube-system", controller, func(*authenticationv1.TokenRequest) {}, policy},
		{"an account of kube-system at the API server", controller, audiences(cluster.Issuer), policy},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := tokenRequest(test.pod)
			test.change(request)
			answer, err := attacker.CoreV1().ServiceAccounts(test.pod.Namespace).CreateToken(t.Context(), test.pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
			got := server
			switch {
			case err == nil:
				got = granted
				if user := acceptedAs(t, config, answer.Status.Token); user != "" {
					t.Errorf("the API server accepts the token as %s", user)
				}
			case byPolicy(err):
				got = policy
				if strings.Contains(err.Error(), "resulted in error") {
					t.Errorf("the refusal has no reason: %v", err)
				}
			}
			if got != test.want {
				t.Errorf("%s (%v), want %s", got, err, test.want)
			}
		})
	}
	t.Run("others are not restricted", func(t *testing.T) {
		_, err := cluster.Client.CoreV1().ServiceAccounts(ns).CreateToken(t.Context(), "app", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if err != nil {
			t.Error(err)
		}
	})
}

// acceptedAs is the user that the API server takes the bearer of the token for, or empty.
func acceptedAs(t testing.TB, config *rest.Config, token string) string {
	t.Helper()
	bearer := rest.AnonymousClientConfig(config)
	bearer.BearerToken = token
	client, err := clientset.NewForConfig(bearer)
	if err != nil {
		t.Fatal(err)
	}
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if apierrors.IsUnauthorized(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return review.Status.UserInfo.Username
}

// The daemon can change one thing about nodes: the start-up taint of its own node.
func TestAdmission_DaemonRemovesOnlyItsOwnTaint(t *testing.T) {
	const own, neighbour = "admission-own", "admission-neighbour"
	startup := corev1.Taint{Key: startupTaint, Value: "x", Effect: corev1.TaintEffectNoSchedule}
	evicting := corev1.Taint{Key: startupTaint, Effect: corev1.TaintEffectNoExecute}
	others := corev1.Taint{Key: "example.com/gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	for _, node := range []string{own, neighbour} {
		cluster.Node(t, node, map[string]string{"label": "kept"})
		taint(t, node, startup, others, evicting)
		change(t, node, func(node *corev1.Node) { node.Spec.Unschedulable = true })
	}
	attacker, _ := attackerOn(t, own)
	for _, test := range []struct {
		name, node, subresource string
		patch                   map[string]any
		policy                  bool // refused by the policy, or else by RBAC; granted if nil
		granted                 bool
	}{
		{name: "the taint of another node", node: neighbour, patch: taints(others), policy: true},
		{name: "a label", node: own, patch: meta("labels", map[string]any{"label": "changed"}), policy: true},
		{name: "a further label", node: own, patch: meta("labels", map[string]any{"further": "x"}), policy: true},
		{name: "no label", node: own, patch: meta("labels", nil), policy: true},
		{name: "an annotation", node: own, patch: meta("annotations", map[string]any{"a": "b"}), policy: true},
		{name: "a finalizer", node: own, patch: meta("finalizers", []string{"example.com/never"}), policy: true},
		{name: "an owner", node: own, policy: true, patch: meta("ownerReferences", []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}})},
		{name: "all taints", node: own, patch: taints(), policy: true},
		{name: "another taint", node: own, patch: taints(startup, evicting), policy: true},
		{name: "one of two", node: own, patch: taints(evicting, others), policy: true},
		{name: "a new taint", node: own, patch: taints(others, corev1.Taint{Key: "new", Effect: corev1.TaintEffectNoExecute}), policy: true},
		{name: "another value of another taint", node: own, patch: taints(corev1.Taint{Key: others.Key, Effect: others.Effect}), policy: true},
		{name: "its pods' addresses", node: own, patch: nodeSpec("podCIDRs", []string{"10.9.0.0/24"}), policy: true},
		{name: "schedulable", node: own, patch: nodeSpec("unschedulable", nil), policy: true},
		{name: "its provider's ID", node: own, patch: nodeSpec("providerID", "example://1"), policy: true},
		{name: "the taint and a label", node: own, policy: true, patch: map[string]any{"metadata": map[string]any{"labels": map[string]any{"x": "y"}}, "spec": taints(others)["spec"]}},
		{name: "its status", node: own, subresource: "status", patch: map[string]any{"status": map[string]any{"phase": "Pending"}}},
		{name: "the taint", node: own, patch: taints(others), granted: true},
		{name: "the taint that is gone", node: own, patch: taints(others), granted: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			patch, err := json.Marshal(test.patch)
			if err != nil {
				t.Fatal(err)
			}
			var under []string
			if test.subresource != "" {
				under = append(under, test.subresource)
			}
			if test.policy && test.node == own {
				// The change is refused even together with an allowed one.
				if _, also := nodeSpecOf(test.patch)["taints"]; !also {
					both := maps.Clone(test.patch)
					both["spec"] = maps.Clone(nodeSpecOf(test.patch))
					nodeSpecOf(both)["taints"] = []corev1.Taint{others}
					along, err := json.Marshal(both)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := attacker.CoreV1().Nodes().Patch(t.Context(), own, types.MergePatchType, along, metav1.PatchOptions{}); !byPolicy(err) {
						t.Errorf("with the taint: %v; want a refusal by the policy", err)
					}
				}
			}
			_, err = attacker.CoreV1().Nodes().Patch(t.Context(), test.node, types.MergePatchType, patch, metav1.PatchOptions{}, under...)
			if test.granted {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !apierrors.IsForbidden(err) || byPolicy(err) != test.policy {
				t.Errorf("%v; want a refusal, by the policy: %t", err, test.policy)
			}
		})
	}
	t.Run("the node is as it was but for the taint", func(t *testing.T) {
		node, err := cluster.Client.CoreV1().Nodes().Get(t.Context(), own, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(node.Spec.Taints) != 1 || node.Spec.Taints[0] != others || node.Labels["label"] != "kept" {
			t.Errorf("labels %v, taints %v", node.Labels, node.Spec.Taints)
		}
	})
	t.Run("nor remove nodes or make any", func(t *testing.T) {
		if err := attacker.CoreV1().Nodes().Delete(t.Context(), own, metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("delete: %v", err)
		}
		if _, err := attacker.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "new"}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("create: %v", err)
		}
	})
}

// Readers trust the source that an event names. The daemon writes events about pods, and
// only with its own name as the source.
func TestAdmission_DaemonWritesOnlyItsOwnEvents(t *testing.T) {
	const node = "admission-events"
	cluster.Node(t, node, nil)
	attacker, _ := attackerOn(t, node)
	ns := cluster.Namespace(t, "team-")
	pod := cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", Node: node})
	event := func(name string, change func(*corev1.Event)) *corev1.Event {
		now := metav1.Now()
		e := &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Name: name, Namespace: ns},
			InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: ns, Name: pod.Name, UID: pod.UID},
			Type:           corev1.EventTypeWarning, Reason: "GoogleTokenDenied", Message: "It is so.", Count: 1, FirstTimestamp: now, LastTimestamp: now,
			Source: corev1.EventSource{Component: daemonName, Host: node}, ReportingController: daemonName, ReportingInstance: node,
		}
		change(e)
		return e
	}
	kubelets, err := cluster.Client.CoreV1().Events(ns).Create(t.Context(), event("kubelets", func(e *corev1.Event) {
		e.Source.Component, e.ReportingController = "kubelet", "kubelet"
	}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	own, err := attacker.CoreV1().Events(ns).Create(t.Context(), event("own", func(*corev1.Event) {}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, err error) {
		t.Helper()
		if !byPolicy(err) || strings.Contains(err.Error(), "resulted in error") {
			t.Errorf("%s: %v; want a refusal by the policy with a reason", name, err)
		}
	}
	for name, change := range map[string]func(*corev1.Event){
		"about a node":             func(e *corev1.Event) { e.InvolvedObject.Kind = "Node" },
		"about nothing":            func(e *corev1.Event) { e.InvolvedObject = corev1.ObjectReference{Namespace: ns} },
		"that is no warning":       func(e *corev1.Event) { e.Type = corev1.EventTypeNormal },
		"of no type":               func(e *corev1.Event) { e.Type = "" },
		"in the kubelet's name":    func(e *corev1.Event) { e.Source.Component = "kubelet" },
		"without a name":           func(e *corev1.Event) { e.Source = corev1.EventSource{} },
		"in the controller's name": func(e *corev1.Event) { e.ReportingController = "kubelet" },
	} {
		_, err := attacker.CoreV1().Events(ns).Create(t.Context(), event("forged", change), metav1.CreateOptions{})
		refused(name, err)
	}
	patch := func(e *corev1.Event, attempt map[string]any) error {
		document, err := json.Marshal(attempt)
		if err != nil {
			t.Fatal(err)
		}
		_, err = attacker.CoreV1().Events(ns).Patch(t.Context(), e.Name, types.StrategicMergePatchType, document, metav1.PatchOptions{})
		return err
	}
	if err := patch(own, map[string]any{"count": 2, "message": "It is so still."}); err != nil {
		t.Errorf("a second time: %v", err)
	}
	refused("of another pod", patch(own, map[string]any{"involvedObject": map[string]any{"uid": "another"}}))
	refused("the kubelet's", patch(kubelets, map[string]any{"message": "All is well."}))
	refused("the kubelet's, made its own", patch(kubelets, map[string]any{"source": map[string]any{"component": daemonName}, "reportingComponent": daemonName}))
	if err := attacker.CoreV1().Events(ns).Delete(t.Context(), kubelets.Name, metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("delete: %v", err)
	}
	newer := &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Name: "newer", Namespace: ns}}
	if _, err := attacker.EventsV1().Events(ns).Create(t.Context(), newer, metav1.CreateOptions{}); !apierrors.IsForbidden(err) || byPolicy(err) {
		t.Errorf("in the other group of events: %v; want a refusal by RBAC", err)
	}
}

// taint sets the taints of a node, as an administrator.
func taint(t testing.TB, node string, all ...corev1.Taint) {
	t.Helper()
	patch, err := json.Marshal(taints(all...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := cluster.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

func taints(all ...corev1.Taint) map[string]any { return nodeSpec("taints", all) }

func nodeSpec(field string, value any) map[string]any {
	return map[string]any{"spec": map[string]any{field: value}}
}

// nodeSpecOf is the spec in a patch.
func nodeSpecOf(patch map[string]any) map[string]any {
	spec, there := patch["spec"].(map[string]any)
	if !there {
		spec = map[string]any{}
	}
	return spec
}

func meta(field string, value any) map[string]any {
	return map[string]any{"metadata": map[string]any{field: value}}
}
