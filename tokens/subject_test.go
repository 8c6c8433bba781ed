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

// cluster gives KSA tokens by a function.
type cluster func(namespace, account string, r *authenticationv1.TokenRequest) error

func (answer cluster) RequestToken(_ context.Context, namespace, account string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	request = request.DeepCopy()
	err := answer(namespace, account, request)
	return request, err
}

// A token that is bound to its pod is void when the pod is gone.
func TestKSATokenIsBoundToItsPodAndItsAudience(t *testing.T) {
	expiry := time.Now().Add(time.Hour).Truncate(time.Second)
	subjects := ClusterTokens{Accounts: cluster(func(namespace, account string, r *authenticationv1.TokenRequest) error {
		bound := r.Spec.BoundObjectRef
		if namespace != "shop" || account != "cart" {
			t.Errorf("asked for one of %s/%s", namespace, account)
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
	token, err := subjects.SubjectToken(t.Context(), linked, "aud", subjectLife)
	check(t, err)
	if token.Value() != "ksa-token" || !token.Expiry.Equal(expiry) {
		t.Errorf("%s until %s", token.Value(), token.Expiry)
	}
}

var static = with(linked, func(w *identity.Workload) { w.Pod.Static = true })

// The API server binds no token to a static pod.
func TestKSATokenOfAStaticPodIsBoundToItsNode(t *testing.T) {
	subjects := ClusterTokens{Node: "node-1", Accounts: cluster(func(_, _ string, r *authenticationv1.TokenRequest) error {
		if bound := r.Spec.BoundObjectRef; bound == nil || bound.Kind != "Node" || bound.APIVersion != "v1" || bound.Name != "node-1" || bound.UID != "" {
			t.Errorf("bound to %v", bound)
		}
		return nil
	})}
	_, err := subjects.SubjectToken(t.Context(), static, "aud", subjectLife)
	check(t, err)
}

func TestRefusalOfAStaticPodsTokenSaysWhatItNeeds(t *testing.T) {
	for _, refusal := range []error{
		apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("the policy")), apierrors.NewBadRequest("kind"), apierrors.NewInvalid(schema.GroupKind{}, "", nil),
	} {
		subjects := ClusterTokens{Accounts: cluster(func(string, string, *authenticationv1.TokenRequest) error { return refusal })}
		_, err := subjects.SubjectToken(t.Context(), static, "aud", subjectLife)
		wantError(t, err, Denied, "shop/cart", refusal.Error(), "admission.staticPods", "a DaemonSet or a Deployment")
	}
}

func TestRefusalOfTheAPIServerIsExplained(t *testing.T) {
	of := schema.GroupResource{Resource: "serviceaccounts"}
	for name, test := range map[string]struct {
		err  error
		kind Kind
		text string
	}{
		"forbidden":    {apierrors.NewForbidden(of, "cart", errors.New("no role")), Misconfigured, "no role\nThe metadata server must be let create serviceaccounts/token: apply its RBAC rules."},
		"unauthorized": {apierrors.NewUnauthorized("expired"), Unavailable, "the API server says: expired\nThe API server does not accept the metadata server's own credential."},
		"gone":         {apierrors.NewNotFound(of, "cart"), Denied, "create the pod anew"},
		"bad":          {apierrors.NewBadRequest("no audience"), Denied, "the API server says: no audience\nAsking again changes nothing"},
		"invalid":      {apierrors.NewInvalid(schema.GroupKind{Kind: "TokenRequest"}, "", nil), Denied, "Asking again changes nothing"},
		"created anew": {apierrors.NewConflict(of, "cart", errors.New("the UID is another")), Unavailable, "the UID is another"},
		"busy":         {apierrors.NewTooManyRequests("slow down", 1), Unavailable, "the API server says: slow down"},
		"broken":       {apierrors.NewInternalError(errors.New("etcd")), Unavailable, "etcd"},
		"unreachable":  {errors.New("no route to host"), Unavailable, "could not be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			subjects := ClusterTokens{Accounts: cluster(func(string, string, *authenticationv1.TokenRequest) error { return test.err })}
			_, err := subjects.SubjectToken(t.Context(), linked, "aud", subjectLife)
			if got := wantError(t, err, test.kind, test.text, "shop/cart", "cart-7d4"); !errors.Is(got, test.err) {
				t.Error("the cause is lost")
			}
		})
	}
}

func TestEngineTellsThatTheAPIServerRefuses(t *testing.T) {
	subjects := ClusterTokens{Accounts: cluster(func(string, string, *authenticationv1.TokenRequest) error {
		return apierrors.NewForbidden(schema.GroupResource{}, "", nil)
	})}
	e := newEngine(t, startGoogle(t).federation(func(f *Federation) { f.Subjects = subjects }))
	for _, w := range []identity.Workload{linked, unlinked} {
		_, err := e.AccessToken(t.Context(), w, DefaultScopes())
		wantError(t, err, Misconfigured, "serviceaccounts/token")
	}
}
