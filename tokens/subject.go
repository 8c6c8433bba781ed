package tokens

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"gke-metadata-emulator/identity"
)

// subjectLifetime is the lifetime requested for a KSA token. It is renewed at a quarter
// of it, so an API server that is down for 45 minutes goes unnoticed even if it grants
// an hour at most.
const subjectLifetime = 2 * time.Hour

// minRefusedAge is how old a KSA token must be to be replaced when Google refuses it. If
// Google refuses every token, the API server gets one request in this time.
const minRefusedAge = time.Minute

// SubjectTokens issues the token that proves a workload's KSA to Google: the subject
// token of RFC 8693.
type SubjectTokens interface {
	// SubjectToken returns a token for that audience only, with about that lifetime.
	SubjectToken(ctx context.Context, w identity.Workload, audience string, lifetime time.Duration) (Token, error)
}

// Accounts is the API server as the issuer of KSA tokens (authentication.k8s.io/v1,
// TokenRequest).
type Accounts interface {
	RequestToken(ctx context.Context, namespace, account string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// ClusterTokens requests KSA tokens from the API server (TokenRequest). Each is bound to
// its pod, so it becomes invalid when the pod is gone. The API server binds no token to a
// static pod; its token is bound to the node.
type ClusterTokens struct {
	Accounts Accounts
	Node     string           // name of the node
	Now      func() time.Time // default: time.Now
}

// SubjectToken implements [SubjectTokens].
func (c ClusterTokens) SubjectToken(ctx context.Context, w identity.Workload, audience string, lifetime time.Duration) (Token, error) {
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	seconds := int64(lifetime.Seconds())
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:         []string{audience},
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: w.Pod.Name, UID: types.UID(w.Pod.UID)},
	}}
	if w.Pod.Static {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: c.Node}
	}
	requested := now()
	response, err := c.Accounts.RequestToken(ctx, w.KSA.Namespace, w.KSA.Name, request)
	if err != nil {
		return Token{}, clusterError(w, err)
	}
	token := NewToken(response.Status.Token, response.Status.ExpirationTimestamp.Time)
	if claims, _, err := parseJWT(response.Status.Token); err == nil && claims.IssuedAt != nil && claims.Expiry != nil {
		// The API server's clock can differ from ours, so the lifetime counts.
		token.Expiry = requested.Add(claims.Expiry.Time().Sub(claims.IssuedAt.Time()))
		token = token.withOrigin(func(o *origin) { o.CredentialID = claims.ID })
	}
	return token, nil
}

// subjectCache caches KSA tokens as the other caches do Google's: otherwise each renewal
// at Google would need the API server.
type subjectCache struct{ *store }

func newSubjectCache(next SubjectTokens, size int, now func() time.Time, background *background, m *metrics) subjectCache {
	return subjectCache{newStore("ksa", func(ctx context.Context, k key, w identity.Workload) (token Token, err error) {
		err = callUpstream(ctx, m, "TokenRequest", func(ctx context.Context) error {
			token, err = next.SubjectToken(ctx, w, k.audience, time.Duration(k.lifetime)*time.Second)
			return err
		})
		return token, err
	}, size, now, background, m)}
}

// SubjectToken implements [SubjectTokens].
func (s subjectCache) SubjectToken(ctx context.Context, w identity.Workload, audience string, lifetime time.Duration) (Token, error) {
	k := subjectKey(w, audience, lifetime)
	if token, ok := s.hit(k, &w, minLifetime); ok {
		return token, nil
	}
	return s.get(ctx, k, minLifetime, w)
}

func subjectKey(w identity.Workload, audience string, lifetime time.Duration) key {
	return key{ksa: w.KSA.UID, audience: audience, lifetime: int(lifetime.Seconds())}
}

// invalidate drops a KSA token that Google refused, and reports whether a new one is
// worth a try. That is so for a cached token of some age, for example after an emergency
// rotation of the cluster's signing key. A token that was just issued would be replaced
// by one like it.
func (s subjectCache) invalidate(w identity.Workload, audience string, lifetime time.Duration, token Token) bool {
	if !token.cached {
		return false
	}
	k := subjectKey(w, audience, lifetime)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries.peek(k)
	if e == nil || e.token.Expiry.Sub(s.now()) > e.lifetime-minRefusedAge {
		return false
	}
	s.entries.remove(k)
	return true
}

func clusterError(w identity.Workload, err error) *Error {
	e := &Error{Kind: Unavailable, Err: err}
	task := fmt.Sprintf("get a token of service account %s/%s for pod %s", w.KSA.Namespace, w.KSA.Name, w.Pod.Name)
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return unreachable(task, "the API server", err)
	}
	e.Message = fmt.Sprintf("Unable to %s; the API server returned: %s", task, answer.Status().Message)
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	switch {
	case w.Pod.Static && (apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || apierrors.IsInvalid(err)):
		e.Kind = Denied
		e.Message += "\nThe token of a static pod is bound to its node, which requires Kubernetes 1.32 and the chart's value admission.staticPods; " +
			"set it, or turn the pod into a DaemonSet or a Deployment."
	case apierrors.IsForbidden(err) && strings.Contains(e.Message, "ValidatingAdmissionPolicy"):
		e.Kind = Misconfigured
		e.Message += "\nThe admission policy of the metadata server's installation refuses the token. If it names audiences, it was installed for another " +
			"--workload-identity-provider: install it again with this one. If it names the namespace, the chart's value admission.excludedNamespaces lists it."
	case apierrors.IsForbidden(err):
		e.Kind = Misconfigured
		e.Message += "\nThe metadata server needs permission to create serviceaccounts/token; apply its RBAC rules."
	case apierrors.IsUnauthorized(err):
		// Our own credential has expired or been replaced; the client reads the new one soon.
		e.Message += "\nThe API server does not accept the metadata server's own credential."
	case apierrors.IsNotFound(err):
		e.Kind = Denied
		e.Message += "\nThe pod or its service account no longer exists; recreate the pod."
	case apierrors.IsBadRequest(err), apierrors.IsInvalid(err):
		e.Kind = Denied
		e.Message += "\nA retry does not help; recreate the pod, or fix the problem that the API server names."
	}
	return e
}
