package tokens

import (
	"context"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"gke-metadata-emulator/identity"
)

// Federation is how a cluster whose issuer Google knows proves its workloads: the
// KSA's token is exchanged at Google's Security Token Service.
type Federation struct {
	Provider    string        // //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER
	STSEndpoint string        // https://sts.googleapis.com
	Subjects    SubjectTokens // where the KSA tokens come from
}

// exchange gives federated tokens: who has one is the KSA itself, in Google's eyes.
type exchange struct {
	Federation
	client  *http.Client
	metrics *metrics
}

// AccessToken implements [Source] by RFC 8693, as "Workload Identity Federation
// with Kubernetes" in Google's documentation asks for it.
func (x *exchange) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	var subject, token Token
	err := x.metrics.time("TokenRequest", func() (err error) {
		// Google's default for the audience of a Kubernetes provider.
		subject, err = x.Subjects.SubjectToken(ctx, w, "https:"+x.Provider)
		return err
	})
	if err != nil {
		return Token{}, err
	}
	config := clientcredentials.Config{
		TokenURL:  x.STSEndpoint + "/v1/token",
		AuthStyle: oauth2.AuthStyleInParams,
		Scopes:    scopes,
		EndpointParams: url.Values{
			"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
			"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
			"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
			"audience":             {x.Provider},
			"subject_token":        {subject.Value()},
		},
	}
	err = x.metrics.time("sts", func() error {
		t, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, x.client))
		if err != nil {
			return oauthError("exchange the token of service account "+w.KSA.Namespace+"/"+w.KSA.Name+" at "+x.Provider, "STS", err)
		}
		token = NewToken(t.AccessToken, t.Expiry)
		if t.Expiry.IsZero() { // the answer need not say
			token.Expiry = subject.Expiry
		}
		return nil
	})
	return token, err
}

// IDToken implements [Source]: a KSA has none at Google.
func (x *exchange) IDToken(_ context.Context, w identity.Workload, _ IDTokenRequest) (Token, error) {
	return Token{}, notLinked(w, "Identity Tokens")
}

// federated is the [base] of federation.
type federated struct {
	source Source // of federated tokens
}

func (f federated) bearer(ctx context.Context, w identity.Workload) (Token, error) {
	// What the GSA's token may do is decided at the next hop. That hop needs IAM.
	// The GSA is no part of a federated token's key: all that a KSA was ever
	// annotated with share it.
	w.GSA = ""
	return f.source.AccessToken(ctx, w, Scopes{CloudPlatform})
}

func (f federated) unlinked(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	return f.source.AccessToken(ctx, w, scopes)
}
