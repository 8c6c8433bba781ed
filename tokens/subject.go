package tokens

import (
	"context"
	"errors"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"

	"gke-metadata-emulator/identity"
)

// subjectTokenSeconds is the life asked for a KSA token.
const subjectTokenSeconds = 3600

// SubjectTokens gives the token that proves a workload's KSA to Google: the
// subject token of RFC 8693.
type SubjectTokens interface {
	SubjectToken(ctx context.Context, w identity.Workload, audience string) (Token, error)
}

// ClusterTokens asks the API server for KSA tokens (TokenRequest), each bound to
// the pod that it is for: it is void as soon as the pod is gone.
type ClusterTokens struct {
	Accounts coreclient.ServiceAccountsGetter
}

// SubjectToken implements [SubjectTokens].
func (c ClusterTokens) SubjectToken(ctx context.Context, w identity.Workload, audience string) (Token, error) {
	seconds := int64(subjectTokenSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:         []string{audience},
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: w.Pod.Name, UID: types.UID(w.Pod.UID)},
	}}
	answer, err := c.Accounts.ServiceAccounts(w.KSA.Namespace).CreateToken(ctx, w.KSA.Name, request, metav1.CreateOptions{})
	if err != nil {
		return Token{}, clusterError(w, err)
	}
	return NewToken(answer.Status.Token, answer.Status.ExpirationTimestamp.Time), nil
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
		return &Error{Kind: Unavailable, Err: err, Message: fmt.Sprintf("Unable to %s; the API server says: %s", task, answer.Status().Message)}
	}
	return unreachable(task, "the API server", err)
}
