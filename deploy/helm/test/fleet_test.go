package main

import (
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"

	"gke-metadata-emulator/integration/kubernetes"
)

// With a fleet's membership, the daemon may request tokens for the workload pool, and for no
// other audience.
func TestTokenPolicy_AllowsFleetsAudience(t *testing.T) {
	cluster := kubernetes.Start(t)
	cluster.Namespace(t, namespace)
	shop := cluster.Namespace(t, "shop")
	pod := cluster.RunPod(t, kubernetes.PodSpec{Namespace: shop, Name: "app", Node: "node-1", IP: "127.0.1.1"})
	manifests, err := render(deploy, withValues("federation", object{
		"settings.workloadIdentityProvider": "https://gkehub.googleapis.com/projects/prod-project/locations/global/memberships/on-prem",
	}))
	if err != nil {
		t.Fatal(err)
	}
	applier := newApplier(t, cluster)
	applier.apply(t, manifests["rbac.yaml"])
	applier.apply(t, manifests["admission.yaml"])
	config, err := cluster.RESTConfigFor(t.Context(), namespace, "gke-metadata-emulator")
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := clientset.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	request := func(audience string) error {
		seconds := int64(3600)
		_, err := daemon.CoreV1().ServiceAccounts(shop).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{audience}, ExpirationSeconds: &seconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
		}}, metav1.CreateOptions{})
		return err
	}
	const refusal = "the metadata server may request tokens only for these audiences: prod-project.svc.id.goog"
	deadline := time.Now().Add(time.Minute) // RBAC and policies are effective a moment later
	for _, audience := range []string{"https:" + provider, "other-project.svc.id.goog", "https://kubernetes.default.svc.cluster.local"} {
		err := request(audience)
		for (err == nil || !strings.Contains(err.Error(), refusal)) && time.Now().Before(deadline) {
			err = request(audience)
		}
		if err == nil || !strings.Contains(err.Error(), refusal) {
			t.Errorf("audience %s: %v, want a refusal with: %s", audience, err, refusal)
		}
	}
	if err := request("prod-project.svc.id.goog"); err != nil {
		t.Error(err)
	}
}
