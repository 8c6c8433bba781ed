package tokens

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"gke-metadata-emulator/identity"
)

// SourceCredential is the operator's credential for impersonation. It can change at any
// time; see [Engine.SourceCredentialChanged].
type SourceCredential interface {
	// Token returns a token with the scope cloud-platform. It caches, and its HTTP client
	// has a timeout.
	Token() (*oauth2.Token, error)
	// QuotaProject is the project that is billed for calls of IAM; empty: Google chooses.
	QuotaProject() string
	// Member is IAM's name of the credential, for double quotes in a shell command:
	// serviceAccount:EMAIL, or user:$(gcloud config get account).
	Member() string
}

// sourceCredential is the [credential] of impersonation: one credential of the operator
// for all workloads. It can do more than any workload may, so a [Policy] guards it and no
// workload ever gets it.
type sourceCredential struct {
	SourceCredential
	file    string             // see request.file
	flights singleflight.Group // one refresh at a time, even if it hangs
	metrics *metrics
}

// bearer returns the operator's token. It stops waiting when ctx ends.
func (s *sourceCredential) bearer(ctx context.Context, w identity.Workload) (Token, error) {
	// oauth2's sources take no context: the HTTP client's timeout ends the call.
	refresh := s.flights.DoChan("", func() (any, error) { return s.Token() })
	var token Token
	err := s.metrics.measure("sourceCredential", func() error {
		select {
		case r := <-refresh:
			if r.Err != nil {
				return oauthError("refresh the source credential of the metadata server", googleService,
					refusedRequest{gsa: w.GSA, caller: s.Member(), quota: s.QuotaProject(), file: s.file}, r.Err)
			}
			t := r.Val.(*oauth2.Token)
			token = NewToken(t.AccessToken, t.Expiry)
			return nil
		case <-ctx.Done():
			return unreachable("refresh the source credential of the metadata server", googleService, ctx.Err())
		}
	})
	return token, err
}

// quotaProject implements [credential].
func (s *sourceCredential) quotaProject() string { return s.QuotaProject() }

func (s *sourceCredential) unlinkedToken(_ context.Context, w identity.Workload, _ Scopes, _ time.Duration) (Token, error) {
	return Token{}, notLinked(w, "Access Tokens without Workload Identity Federation")
}

// notLinked is GKE's text for a KSA without an annotation; feature is what it cannot have.
func notLinked(w identity.Workload, feature string) *Error {
	return &Error{Kind: NotLinked, uncached: true, Message: fmt.Sprintf(
		"Your Kubernetes service account (%[1]s/%[2]s) is not annotated with a target Google service account, which is a requirement for retrieving %[3]s using Workload Identity.\n"+
			"Please add the %[4]s=[GSA_NAME]@[PROJECT_ID] annotation to your Kubernetes service account by running:\n"+
			"kubectl annotate serviceaccount --namespace %[1]s %[2]s %[4]s=[GSA_NAME]@[PROJECT_ID].iam.gserviceaccount.com\n"+
			"For more information, refer to the Workload Identity documentation:\n"+
			"\thttps://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity#authenticating_to",
		w.KSA.Namespace, w.KSA.Name, feature, identity.AnnotationGSA)}
}
