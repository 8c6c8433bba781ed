package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"gke-metadata-emulator/identity"
)

// subjectLife is the life asked for a KSA token. Renewed at a quarter of it, there is
// always enough left for an API server that is away for 45 minutes to go unnoticed,
// also where the API server gives an hour at most.
const subjectLife = 2 * time.Hour

// minRefusedAge is how old a KSA token must be that is replaced because Google refuses
// it: where Google refuses all of them the API server is asked once in this time.
const minRefusedAge = time.Minute

// SubjectTokens gives the token that proves a workload's KSA to Google: the
// subject token of RFC 8693.
type SubjectTokens interface {
	// SubjectToken gives one that is for that audience only, for about that life.
	SubjectToken(ctx context.Context, w identity.Workload, audience string, life time.Duration) (Token, error)
}

// Accounts is the API server, which gives tokens of KSAs (authentication.k8s.io/v1,
// TokenRequest).
type Accounts interface {
	RequestToken(ctx context.Context, namespace, account string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// ClusterTokens asks the API server for KSA tokens (TokenRequest), each bound to
// the pod that it is for: it is void as soon as the pod is gone. That of a static pod,
// to which the API server binds none, is bound to the node.
type ClusterTokens struct {
	Accounts Accounts
	Node     string           // name of the node
	Now      func() time.Time // time.Now where nil
}

// SubjectToken implements [SubjectTokens].
func (c ClusterTokens) SubjectToken(ctx context.Context, w identity.Workload, audience string, life time.Duration) (Token, error) {
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	seconds := int64(life.Seconds())
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:         []string{audience},
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: w.Pod.Name, UID: types.UID(w.Pod.UID)},
	}}
	if w.Pod.Static {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: c.Node}
	}
	asked := now()
	answer, err := c.Accounts.RequestToken(ctx, w.KSA.Namespace, w.KSA.Name, request)
	if err != nil {
		return Token{}, clusterError(w, err)
	}
	token := NewToken(answer.Status.Token, answer.Status.ExpirationTimestamp.Time)
	if claims, err := claimsOf(answer.Status.Token); err == nil && claims.IssuedAt > 0 {
		// The API server's clock may differ from ours: the life is what counts.
		token.Expiry = asked.Add(claims.life())
		token = token.from(func(o *origin) { o.Credential = claims.ID })
	}
	return token, nil
}

// subjects keeps KSA tokens, as a cache keeps those of Google: without it each renewal
// at Google would need the API server.
type subjects struct{ *store }

func newSubjects(next SubjectTokens, size int, now func() time.Time, tasks *tasks, m *metrics) subjects {
	return subjects{newStore("ksa", func(ctx context.Context, k key, w identity.Workload) (token Token, err error) {
		err = m.call(ctx, "TokenRequest", func(ctx context.Context) error {
			token, err = next.SubjectToken(ctx, w, k.audience, time.Duration(k.life)*time.Second)
			return err
		})
		return token, err
	}, size, now, tasks, m)}
}

// SubjectToken implements [SubjectTokens].
func (s subjects) SubjectToken(ctx context.Context, w identity.Workload, audience string, life time.Duration) (Token, error) {
	k := subjectKey(w, audience, life)
	if token, ok := s.hit(k, &w, minLife); ok {
		return token, nil
	}
	return s.get(ctx, k, minLife, w)
}

func subjectKey(w identity.Workload, audience string, life time.Duration) key {
	return key{ksa: w.KSA.UID, audience: audience, life: int(life.Seconds())}
}

// refused forgets a KSA token that Google does not accept, and says whether another is
// worth a try: one with which nothing is wrong but its age, as after an emergency
// rotation of the cluster's signing key. Of a new one the next would be like it.
func (s subjects) refused(w identity.Workload, audience string, life time.Duration, token Token) bool {
	if !token.cached {
		return false
	}
	k := subjectKey(w, audience, life)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries.peek(k)
	if e == nil || e.token.Expiry.Sub(s.now()) > e.life-minRefusedAge {
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
	e.Message = fmt.Sprintf("Unable to %s; the API server says: %s", task, answer.Status().Message)
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	switch {
	case w.Pod.Static && (apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || apierrors.IsInvalid(err)):
		e.Kind = Denied
		e.Message += "\nThe token of a static pod is bound to its node, which needs Kubernetes 1.32 and the chart's value admission.staticPods: " +
			"set it, or make the pod a DaemonSet or a Deployment."
	case apierrors.IsForbidden(err):
		e.Kind = Misconfigured
		e.Message += "\nThe metadata server must be let create serviceaccounts/token: apply its RBAC rules."
	case apierrors.IsUnauthorized(err):
		// Its own credential has expired or been replaced; it reads the new one soon.
		e.Message += "\nThe API server does not accept the metadata server's own credential."
	case apierrors.IsNotFound(err):
		e.Kind = Denied
		e.Message += "\nThe pod or its service account is gone: create the pod anew."
	case apierrors.IsBadRequest(err), apierrors.IsInvalid(err):
		e.Kind = Denied
		e.Message += "\nAsking again changes nothing: create the pod anew, or mend what the API server names."
	}
	return e
}
