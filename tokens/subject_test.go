package tokens

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"gke-metadata-emulator/identity"
)

// tokenRequestFunc is an API server that answers by a function.
type tokenRequestFunc func(namespace, account string, r *authenticationv1.TokenRequest) error

func (f tokenRequestFunc) RequestToken(_ context.Context, namespace, account string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	request = request.DeepCopy()
	err := f(namespace, account, request)
	return request, err
}

// A token that is bound to its pod becomes invalid when the pod is gone.
func TestKSAToken_IsBoundToPodAndAudience(t *testing.T) {
	expiry := time.Now().Add(time.Hour).Truncate(time.Second)
	subjects := ClusterTokens{Accounts: tokenRequestFunc(func(namespace, account string, r *authenticationv1.TokenRequest) error {
		bound := r.Spec.BoundObjectRef
		if namespace != "shop" || account != "cart" {
			t.Errorf("requested for %s/%s", namespace, account)
		}
		if bound == nil || bound.Kind != "Pod" || bound.APIVersion != "v1" || bound.Name != "cart-7d4" || bound.UID != "pod-uid" {
			t.Errorf("bound to %v", bound)
		}
		if !slices.Equal(r.Spec.Audiences, []string{"aud"}) || *r.Spec.ExpirationSeconds != 7200 {
			t.Errorf("audiences %q for %d seconds", r.Spec.Audiences, *r.Spec.ExpirationSeconds)
		}
		r.Status = authenticationv1.TokenRequestStatus{Token: "ksa-token", ExpirationTimestamp: metav1.NewTime(expiry)}
		return nil
	})}
	token, err := subjects.SubjectToken(t.Context(), linked, "aud", subjectLifetime)
	check(t, err)
	if token.Value() != "ksa-token" || !token.Expiry.Equal(expiry) {
		t.Errorf("%s until %s", token.Value(), token.Expiry)
	}
}

var static = with(linked, func(w *identity.Workload) { w.Pod.Static = true })

// The API server binds no tokens to static pods.
func TestKSAToken_OfStaticPodIsBoundToNode(t *testing.T) {
	subjects := ClusterTokens{Node: "node-1", Accounts: tokenRequestFunc(func(_, _ string, r *authenticationv1.TokenRequest) error {
		if bound := r.Spec.BoundObjectRef; bound == nil || bound.Kind != "Node" || bound.APIVersion != "v1" || bound.Name != "node-1" || bound.UID != "" {
			t.Errorf("bound to %v", bound)
		}
		return nil
	})}
	_, err := subjects.SubjectToken(t.Context(), static, "aud", subjectLifetime)
	check(t, err)
}

func TestKSAToken_StaticPodRefusalNamesRemedy(t *testing.T) {
	for _, refusal := range []error{
		apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("the policy")), apierrors.NewBadRequest("kind"), apierrors.NewInvalid(schema.GroupKind{}, "", nil),
	} {
		subjects := ClusterTokens{Accounts: tokenRequestFunc(func(string, string, *authenticationv1.TokenRequest) error { return refusal })}
		_, err := subjects.SubjectToken(t.Context(), static, "aud", subjectLifetime)
		wantError(t, err, Denied, "shop/cart", refusal.Error(), "admission.staticPods", "a DaemonSet or a Deployment")
	}
}

func TestKSAToken_APIServerErrorsAreExplained(t *testing.T) {
	resource := schema.GroupResource{Resource: "serviceaccounts"}
	for name, test := range map[string]struct {
		err  error
		kind Kind
		text string
	}{
		"forbidden": {apierrors.NewForbidden(resource, "cart", errors.New("no role")), Misconfigured, "no role\nThe metadata server needs permission to create serviceaccounts/token; apply its RBAC rules."},
		"policy": {apierrors.NewForbidden(resource, "cart", errors.New("ValidatingAdmissionPolicy 'gke-metadata-emulator-tokens' with binding 'b' denied request: only for these audiences: a")),
			Misconfigured, "only for these audiences: a\nThe admission policy of the metadata server's installation refuses the token."},
		"unauthorized": {apierrors.NewUnauthorized("expired"), Unavailable, "the API server returned: expired\nThe API server does not accept the metadata server's own credential."},
		"gone":         {apierrors.NewNotFound(resource, "cart"), Denied, "recreate the pod"},
		"bad":          {apierrors.NewBadRequest("no audience"), Denied, "the API server returned: no audience\nA retry does not help"},
		"invalid":      {apierrors.NewInvalid(schema.GroupKind{Kind: "TokenRequest"}, "", nil), Denied, "A retry does not help"},
		"recreated":    {apierrors.NewConflict(resource, "cart", errors.New("the UID is another")), Unavailable, "the UID is another"},
		"busy":         {apierrors.NewTooManyRequests("slow down", 1), Unavailable, "the API server returned: slow down"},
		"broken":       {apierrors.NewInternalError(errors.New("etcd")), Unavailable, "etcd"},
		"unreachable":  {errors.New("no route to host"), Unavailable, "could not be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			subjects := ClusterTokens{Accounts: tokenRequestFunc(func(string, string, *authenticationv1.TokenRequest) error { return test.err })}
			_, err := subjects.SubjectToken(t.Context(), linked, "aud", subjectLifetime)
			if got := wantError(t, err, test.kind, test.text, "shop/cart", "cart-7d4"); !errors.Is(got, test.err) {
				t.Error("the cause is lost")
			}
		})
	}
}

func TestKSAToken_APIServerRefusalReachesCaller(t *testing.T) {
	subjects := ClusterTokens{Accounts: tokenRequestFunc(func(string, string, *authenticationv1.TokenRequest) error {
		return apierrors.NewForbidden(schema.GroupResource{}, "", nil)
	})}
	e := newEngine(t, startGoogle(t).federation(func(f *Federation) { f.Subjects = subjects }))
	for _, w := range []identity.Workload{linked, unlinked} {
		_, err := e.AccessToken(t.Context(), w, DefaultScopes())
		wantError(t, err, Misconfigured, "serviceaccounts/token")
	}
}
