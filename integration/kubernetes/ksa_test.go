package kubernetes

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func TestKSAs(t *testing.T) {
	c := Start(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *Cluster)
	}{
		{"token is bound to its pod", tokenIsBoundToItsPod},
		{"token of a deleted KSA is refused", tokenOfADeletedKSAIsRefused},
		{"RBAC knows a KSA by its kubeconfig", rbacKnowsAKSA},
		{"annotate", annotate},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c) })
	}
}

func tokenIsBoundToItsPod(t *testing.T, c *Cluster) {
	c.Namespace(t, "team")
	c.Node(t, "node-1", nil)
	ksa := c.KSA(t, "team", "app", nil)
	pod := c.RunPod(t, PodSpec{Namespace: "team", Name: "app-1", KSA: "app", Node: "node-1", IP: "127.0.1.7"})

	const audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
	mint := func() (*authenticationv1.TokenRequest, error) {
		seconds := int64(3600)
		return c.Client.CoreV1().ServiceAccounts("team").CreateToken(t.Context(), "app", &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{
				Audiences:         []string{audience},
				ExpirationSeconds: &seconds,
				BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
			},
		}, metav1.CreateOptions{})
	}
	token, err := mint()
	if err != nil {
		t.Fatal(err)
	}
	later, err := mint()
	if err != nil {
		t.Fatal(err)
	}

	content, err := c.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(content, &keys); err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(token.Status.Token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	type reference struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	}
	var standard jwt.Claims
	var private struct {
		Kubernetes struct {
			Node           reference `json:"node"`
			Pod            reference `json:"pod"`
			ServiceAccount reference `json:"serviceaccount"`
		} `json:"kubernetes.io"`
	}
	if err := parsed.Claims(keys, &standard, &private); err != nil {
		t.Fatalf("token does not verify against the JWKS: %v", err)
	}
	err = standard.Validate(jwt.Expected{
		Issuer: c.Issuer, Subject: "system:serviceaccount:team:app",
		AnyAudience: jwt.Audience{audience}, Time: time.Now(),
	})
	if err != nil {
		t.Errorf("claims %+v: %v", standard, err)
	}
	k := private.Kubernetes
	if k.Pod.UID != string(pod.UID) || k.ServiceAccount.UID != string(ksa.UID) || k.Node.Name != "node-1" || k.Node.UID == "" {
		t.Errorf("claims %+v, want those of pod %s, KSA %s and node node-1", k, pod.UID, ksa.UID)
	}

	if !accepted(t, c, token.Status.Token, audience) {
		t.Error("token is refused while its pod is there")
	}
	c.DeletePod(t, pod)
	refusedSoon(t, c, later.Status.Token, audience)
	if _, err := mint(); !apierrors.IsNotFound(err) {
		t.Errorf("token for a deleted pod: error is %v, want not found", err)
	}
}

func tokenOfADeletedKSAIsRefused(t *testing.T, c *Cluster) {
	namespace := c.Namespace(t, "team-")
	c.KSA(t, namespace, "app", nil)
	config, err := c.RESTConfigFor(t.Context(), namespace, "app")
	if err != nil {
		t.Fatal(err)
	}
	later, err := c.RESTConfigFor(t.Context(), namespace, "app")
	if err != nil {
		t.Fatal(err)
	}
	if !accepted(t, c, config.BearerToken, c.Issuer) {
		t.Error("token is refused while its KSA is there")
	}
	c.DeleteKSA(t, namespace, "app")
	refusedSoon(t, c, later.BearerToken, c.Issuer)
}

func rbacKnowsAKSA(t *testing.T, c *Cluster) {
	namespace := c.Namespace(t, "team-")
	c.KSA(t, namespace, "app", nil)
	path, err := c.KubeconfigFor(t.Context(), namespace, "app")
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = clientset.NewForConfigOrDie(config).CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if user := "system:serviceaccount:" + namespace + ":app"; !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), user) {
		t.Errorf("error is %v, want that %s is forbidden to list pods", err, user)
	}
}

func annotate(t *testing.T, c *Cluster) {
	namespace := c.Namespace(t, "team-")
	const key = "iam.gke.io/gcp-service-account"
	c.KSA(t, namespace, "app", map[string]string{"kept": "yes"})
	ksa := c.Annotate(t, namespace, "app", key, "a@p.iam.gserviceaccount.com")
	if ksa.Annotations[key] != "a@p.iam.gserviceaccount.com" || ksa.Annotations["kept"] != "yes" {
		t.Errorf("set: annotations are %v", ksa.Annotations)
	}
	ksa = c.Annotate(t, namespace, "app", key, "")
	if _, there := ksa.Annotations[key]; there || ksa.Annotations["kept"] != "yes" {
		t.Errorf("removed: annotations are %v", ksa.Annotations)
	}
}

// accepted reports whether the API server accepts the token. It remembers a yes
// for ten seconds, whatever happens to the pod and the KSA meanwhile.
func accepted(t *testing.T, c *Cluster, token, audience string) bool {
	t.Helper()
	review, err := c.Client.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return review.Status.Authenticated
}

// refusedSoon: at once, or, when the API server's own watch is behind, when it
// has forgotten its first answer.
func refusedSoon(t *testing.T, c *Cluster, token, audience string) {
	t.Helper()
	ticker, deadline := time.NewTicker(100*time.Millisecond), time.After(20*time.Second)
	defer ticker.Stop()
	for accepted(t, c, token, audience) {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal("the token is valid after its bound object was deleted")
		}
	}
}
