package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/cluster/deployment"
)

// Pods of the node's network have one address, so that only the kernel can say
// which of them calls.
func hostNetworkPodsAreToldApart(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	gsas := map[string]string{"reader": e.KSA(t, ns, "reader"), "writer": e.KSA(t, ns, "writer")}
	for ksa := range gsas {
		for _, n := range e.Cluster.Nodes {
			spec := podSpec(ksa, n.Name, "once")
			spec.HostNetwork = true
			e.pod(ns, ksa+"-"+n.Name, spec)
		}
	}
	for ksa, gsa := range gsas {
		for _, n := range e.Cluster.Nodes {
			if err := e.right(e.ended(ns, ksa+"-"+n.Name), gsa); err != nil {
				t.Errorf("%s on %s: %v", ksa, n.Name, err)
			}
			e.proved(ns, ksa+"-"+n.Name)
		}
	}
}

// A pod in a user namespace: its root is an unprivileged user on the node.
func podInAUserNamespaceGetsItsToken(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	gsa := e.KSA(t, ns, "app")
	spec := podSpec("app", "", "once")
	spec.HostUsers = new(bool)
	e.pod(ns, "app", spec)
	if err := e.right(e.ended(ns, "app"), gsa); err != nil {
		t.Error(err)
	}
	e.proved(ns, "app")
}

// A static pod belongs to its node: the API server only mirrors it, and allows it no KSA
// but the default of its namespace. The API server binds no token of that KSA to such a
// pod. The pod gets a token that is bound to its node, if the operator allows it.
func staticPodHasItsOwnIdentity(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	n := e.Cluster.Nodes[0]
	gsa := e.annotateDefault(t, ns)
	pod := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "static", Namespace: ns},
		Spec:       podSpec("", "", "serve"),
	}
	pod.Spec.ServiceAccountName = ""
	manifest, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.StaticPod("static", manifest); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.RemoveStaticPod("static"); err != nil {
			t.Error(err)
		}
	})
	mirror := "static-" + n.Name
	e.ready(ns, mirror, "")
	var now answer
	if err := e.ask(t.Context(), ns, mirror, "/now", &now); err != nil {
		t.Fatal(err)
	}
	own := "a token of service account " + ns + "/default for pod " + mirror
	if now.Token != "" || !strings.Contains(now.Failed, own) || !strings.Contains(now.Failed, "admission.staticPods") {
		t.Errorf("by default it has %s, and fails with: %s", now.Email, now.Failed)
	}
	e.letStaticPods(t, "true")
	t.Cleanup(func() { e.letStaticPods(t, "false") })
	eventually(t, podWithin, "a static pod's token", func(ctx context.Context) error {
		var now answer // a part is omitted if it is empty
		if err := e.ask(ctx, ns, mirror, "/now", &now); err != nil {
			return err
		}
		return e.right(now, gsa)
	})
	e.note = "KSA default, with admission.staticPods; refused otherwise"
	e.proved(ns, mirror)
}

// letStaticPods does the same as the chart's value admission.staticPods, for an installation
// without the chart.
func (e *environment) letStaticPods(t *testing.T, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	patch := fmt.Sprintf(`[{"op": "test", "path": "/spec/variables/1/name", "value": "staticPods"}, {"op": "replace", "path": "/spec/variables/1/expression", "value": %q}]`, value)
	policies := e.Cluster.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	if _, err := policies.Patch(ctx, deployment.Name+"-tokens", types.JSONPatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
}

func (e *environment) annotateDefault(t *testing.T, ns string) (gsa string) {
	t.Helper()
	const ksa = "default"
	gsa = e.GSA(ns, ksa)
	accounts := e.Cluster.Client.CoreV1().ServiceAccounts(ns)
	eventually(t, podWithin, "the KSA default", func(ctx context.Context) error {
		account, err := accounts.Get(ctx, ksa, metav1.GetOptions{})
		if err != nil {
			return err
		}
		account.Annotations = map[string]string{identity.AnnotationGSA: gsa}
		_, err = accounts.Update(ctx, account, metav1.UpdateOptions{})
		return err
	})
	return gsa
}

// Neither the metadata address nor the server's own address answers.
func processOfTheNodeGetsNothing(t *testing.T, e *environment) {
	var answers []string
	for _, n := range e.Cluster.Nodes {
		for _, server := range []string{"169.254.169.254", net.JoinHostPort(n.Address, "8987")} {
			if e.mode.name == "address" && server != "169.254.169.254" {
				continue // it listens nowhere else
			}
			output := e.askFromNode(t, n, server)
			if output.Token != "" || output.Email != "" || output.Failed == "" {
				t.Errorf("%s: a process of the node that asks %s gets %s", n.Name, server, output.Email)
			}
			t.Logf("%s, %s: %s", n.Name, server, output.Failed)
			refused := "no route"
			switch {
			case strings.Contains(output.Failed, "403 Forbidden"):
				refused = "403"
			case strings.Contains(output.Failed, "connection refused"):
				refused = "connection refused"
			}
			if server != "169.254.169.254" {
				server = "the server"
			}
			if n == e.Cluster.Nodes[0] {
				answers = append(answers, refused+" at "+server)
			}
		}
	}
	e.note = strings.Join(answers, ", ")
}

func (e *environment) askFromNode(t *testing.T, n *cluster.Node, server string) answer {
	t.Helper()
	ctx, cancel := within(t.Context(), podWithin)
	defer cancel()
	output, err := n.Run(ctx, e.client, "print", server)
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(output, &a); err != nil {
		t.Fatal(fmt.Errorf("%w: %s", err, output))
	}
	return a
}
