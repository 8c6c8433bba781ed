package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"

	"gke-metadata-emulator/identity"
)

// subjectLife is the life asked for a KSA token. Renewed at a quarter of it, there is
// always enough left for an API server that is away for 45 minutes to go unnoticed,
// also where the API server gives an hour at most.
const subjectLife = 2 * time.Hour

// SubjectTokens gives the token that proves a workload's KSA to Google: the
// subject token of RFC 8693.
type SubjectTokens interface {
	// SubjectToken gives one that is for that audience only, for about that life.
	SubjectToken(ctx context.Context, w identity.Workload, audience string, life time.Duration) (Token, error)
}

// ClusterTokens asks the API server for KSA tokens (TokenRequest), each bound to
// the pod that it is for: it is void as soon as the pod is gone.
type ClusterTokens struct {
	Accounts coreclient.ServiceAccountsGetter
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
	asked := now()
	answer, err := c.Accounts.ServiceAccounts(w.KSA.Namespace).CreateToken(ctx, w.KSA.Name, request, metav1.CreateOptions{})
	if err != nil {
		return Token{}, clusterError(w, err)
	}
	token := NewToken(answer.Status.Token, answer.Status.ExpirationTimestamp.Time)
	if claims, err := claimsOf(answer.Status.Token); err == nil && claims.IssuedAt > 0 {
		// The API server's clock may differ from ours: the life is what counts.
		token.Expiry = asked.Add(claims.life())
		token = token.from(func(o *origin) { o.credential = claims.ID })
	}
	return token, nil
}

// subjects keeps KSA tokens, as a cache keeps those of Google: without it each renewal
// at Google would need the API server.
type subjects struct {
	next SubjectTokens
	*store
	metrics *metrics
}

// SubjectToken implements [SubjectTokens].
func (s subjects) SubjectToken(ctx context.Context, w identity.Workload, audience string, life time.Duration) (Token, error) {
	k := key{ksa: w.KSA.UID, audience: audience, life: int(life.Seconds())}
	if token, ok := s.hit(k, &w, minLife); ok {
		return token, nil
	}
	return s.get(ctx, k, minLife, w, func(ctx context.Context, w identity.Workload) (token Token, err error) {
		err = s.metrics.call(ctx, "TokenRequest", func(ctx context.Context) error {
			token, err = s.next.SubjectToken(ctx, w, audience, life)
			return err
		})
		return token, err
	})
}

func clusterError(w identity.Workload, err error) *Error {
	task := fmt.Sprintf("get a token of service account %s/%s for pod %s", w.KSA.Namespace, w.KSA.Name, w.Pod.Name)
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return &Error{Kind: Misconfigured, Err: err, Message: fmt.Sprintf("Unable to %s; the API server does not let the metadata server create serviceaccounts/token: apply its RBAC rules", task)}
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		// The pod or the KSA has just gone or been created anew; the watch says so soon.
		return &Error{Kind: Unavailable, Err: err, Message: fmt.Sprintf("Unable to %s; the API server says that one of them is gone", task)}
	}
	var answer apierrors.APIStatus
	if errors.As(err, &answer) {
		e := &Error{Kind: Unavailable, Err: err, Message: fmt.Sprintf("Unable to %s; the API server says: %s", task, answer.Status().Message)}
		if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
			e.RetryAfter = time.Duration(seconds) * time.Second
		}
		return e
	}
	return unreachable(task, "the API server", err)
}
