package cluster_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/integration/cluster"
)

// rotated is how far a rotation is.
type rotated struct {
	published    int  // keys
	signsAsFirst bool // the key of the beginning
	knowsFirst   bool // a token of the beginning counts
	knowsItsOwn  bool
}

func TestSigningKey_IsRotatedInSteps(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster; not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for namespaces and cgroups")
	}
	c := start(t, cluster.Config{Log: os.Stderr})
	first := publishedKeys(t, c)
	if len(first) != 1 {
		t.Fatalf("a new cluster publishes %d keys", len(first))
	}
	before := ksaToken(t, c)
	old := c.SigningKey()
	next, err := c.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name   string
		signs  cluster.SigningKey
		others []cluster.SigningKey
		want   rotated
	}{
		{"published", old, []cluster.SigningKey{next}, rotated{2, true, true, true}},
		{"in use", next, []cluster.SigningKey{old}, rotated{2, false, true, true}},
		{"alone", next, nil, rotated{1, false, false, true}},
	} {
		began := time.Now()
		if err := c.Sign(t.Context(), step.signs, step.others...); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		t.Logf("the next key is %s: %s", step.name, time.Since(began).Round(10*time.Millisecond))
		token := ksaToken(t, c)
		got := rotated{
			published:    len(publishedKeys(t, c)),
			signsAsFirst: keyOf(t, token) == first[0],
			knowsFirst:   counts(t, c, before),
			knowsItsOwn:  counts(t, c, token),
		}
		if got != step.want {
			t.Errorf("the next key is %s: %+v, want %+v", step.name, got, step.want)
		}
	}
}

func publishedKeys(t *testing.T, c *cluster.Cluster) []string {
	t.Helper()
	document, err := c.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(document, &set); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, key := range set.Keys {
		ids = append(ids, key.Kid)
	}
	return ids
}

func ksaToken(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	answer, err := c.Client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

// counts reports whether the API server accepts the token.
func counts(t *testing.T, c *cluster.Cluster, token string) bool {
	t.Helper()
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	answer, err := c.Client.AuthenticationV1().TokenReviews().Create(t.Context(), review, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Authenticated
}

// keyOf is the ID of the key that has signed a JWT.
func keyOf(t *testing.T, token string) string {
	t.Helper()
	header, _, _ := strings.Cut(token, ".")
	content, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		t.Fatal(err)
	}
	var fields struct{ Kid string }
	if err := json.Unmarshal(content, &fields); err != nil {
		t.Fatal(err)
	}
	return fields.Kid
}
