package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// letStaticPods sets the policy's variable of the chart's admission.staticPods.
func letStaticPods(t testing.TB, value string) {
	t.Helper()
	policies := cluster.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	policy, err := policies.Get(context.Background(), daemonName+"-tokens", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(policy.Spec.Variables, func(v admissionv1.Variable) bool { return v.Name == "staticPods" })
	policy.Spec.Variables[i].Expression = value
	if _, err := policies.Update(context.Background(), policy, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A static pod's token is bound to its node. Where the operator lets static pods have
// one, a stolen token of the daemon gets those of default, and no other.
func TestStaticPods_NodeBoundTokensAreRestricted(t *testing.T) {
	const own, neighbour = "admission-static", "admission-static-neighbour"
	for _, name := range []string{own, neighbour} {
		cluster.Node(t, name, nil)
	}
	attacker, config := attackerOn(t, own)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", nil)
	ask := func(namespace, ksa, node string, audiences ...string) (string, error) {
		request := tokenRequest(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: node}})
		request.Spec.BoundObjectRef.Kind = "Node"
		if len(audiences) > 0 {
			request.Spec.Audiences = audiences
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // also when the test has ended
		defer cancel()
		answer, err := attacker.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, ksa, request, metav1.CreateOptions{})
		if err != nil {
			return "", err
		}
		return answer.Status.Token, nil
	}
	cluster.KSA(t, metav1.NamespaceSystem, "default", nil)
	t.Cleanup(func() { cluster.DeleteKSA(t, metav1.NamespaceSystem, "default") })
	if _, err := ask(ns, "default", own); !byPolicy(err) {
		t.Errorf("by default: %v, want a refusal by the policy", err)
	}
	letStaticPods(t, "true")
	t.Cleanup(func() {
		letStaticPods(t, "false")
		eventually(t, deadline, "the policy is as it was", func() error {
			if _, err := ask(ns, "default", own); !byPolicy(err) {
				return fmt.Errorf("not refused: %v", err)
			}
			return nil
		})
	})
	eventually(t, deadline, "the policy lets static pods", func() error {
		token, err := ask(ns, "default", own)
		if err == nil {
			if user := acceptedAs(t, config, token); user != "" {
				t.Errorf("the API server accepts the token as %s", user)
			}
		}
		return err
	})
	for name, refused := range map[string]struct{ namespace, ksa, node, audience string }{
		"another account":          {ns, "app", own, "https:" + provider},
		"another node":             {ns, "default", neighbour, "https:" + provider},
		"default of kube-system":   {metav1.NamespaceSystem, "default", own, "https:" + provider},
		"the API server's token":   {ns, "default", own, cluster.Issuer},
		"the daemon's own account": {daemonName, daemonName, own, "https:" + provider},
	} {
		if _, err := ask(refused.namespace, refused.ksa, refused.node, refused.audience); !byPolicy(err) || strings.Contains(err.Error(), "resulted in error") {
			t.Errorf("%s: %v, want a refusal by the policy", name, err)
		}
	}
}
