package tokens

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"gke-metadata-emulator/identity"
)

// sourceCredential is the [base] of impersonation: one credential of the operator's
// for all workloads. It could be more than each of them may have, so that a
// [Policy] stands before it and nothing ever hands it out.
type sourceCredential struct {
	tokens  oauth2.TokenSource // caches; its HTTP client has a time-out
	flights singleflight.Group // one refresh at a time, however long it hangs
	metrics *metrics
}

// bearer returns the operator's token, and gives up waiting for it when ctx ends.
func (s *sourceCredential) bearer(ctx context.Context, _ identity.Workload) (Token, error) {
	// oauth2's sources know no context: the HTTP client's time-out ends the call.
	got := s.flights.DoChan("", func() (any, error) { return s.tokens.Token() })
	var token Token
	err := s.metrics.time("sourceCredential", func() error {
		select {
		case r := <-got:
			if r.Err != nil {
				return oauthError("refresh the source credential of the metadata server", "Google", r.Err)
			}
			t := r.Val.(*oauth2.Token)
			token = NewToken(t.AccessToken, t.Expiry)
			return nil
		case <-ctx.Done():
			return unreachable("refresh the source credential of the metadata server", "Google", ctx.Err())
		}
	})
	return token, err
}

func (s *sourceCredential) unlinked(_ context.Context, w identity.Workload, _ Scopes, _ time.Duration) (Token, error) {
	return Token{}, notLinked(w, "Access Tokens without Workload Identity Federation")
}

// notLinked is GKE's text for what a KSA without annotation cannot have.
func notLinked(w identity.Workload, what string) *Error {
	return &Error{Kind: NotLinked, forget: true, Message: fmt.Sprintf(
		"Your Kubernetes service account (%[1]s/%[2]s) is not annotated with a target Google service account, which is a requirement for retrieving %[3]s using Workload Identity.\n"+
			"Please add the %[4]s=[GSA_NAME]@[PROJECT_ID] annotation to your Kubernetes service account by running:\n"+
			"kubectl annotate serviceaccount --namespace %[1]s %[2]s %[4]s=[GSA_NAME]@[PROJECT_ID].iam.gserviceaccount.com\n"+
			"For more information, refer to the Workload Identity documentation:\n"+
			"\thttps://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity#authenticating_to",
		w.KSA.Namespace, w.KSA.Name, what, identity.AnnotationGSA)}
}
