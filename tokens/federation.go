package tokens

import (
	"context"
	"net/http"
	"net/url"
	"time"

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
	kept    subjects      // of its Subjects
	life    time.Duration // asked for of the KSA tokens, which the federated ones do not outlive
	client  *http.Client
	now     func() time.Time
	metrics *metrics
}

// AccessToken implements [Source] by RFC 8693, as "Workload Identity Federation
// with Kubernetes" in Google's documentation asks for it.
func (x *exchange) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	audience := "https:" + x.Provider // Google's default for a Kubernetes provider
	for again := true; ; again = false {
		subject, err := x.kept.SubjectToken(ctx, w, audience, x.life)
		if err != nil {
			return Token{}, err
		}
		token, err := x.exchanged(ctx, w, scopes, subject)
		if !again || !invalidGrant(err) || !x.kept.refused(w, audience, x.life, subject) {
			return token, err
		}
	}
}

// exchanged is what STS gives for a KSA's token.
func (x *exchange) exchanged(ctx context.Context, w identity.Workload, scopes Scopes, subject Token) (Token, error) {
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
	var token Token
	err := x.metrics.call(ctx, "sts", func(ctx context.Context) error {
		t, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, x.client))
		if err != nil {
			refused := oauthError("exchange the token of service account "+w.KSA.Namespace+"/"+w.KSA.Name+" at "+x.Provider, "STS", err)
			return withKeys(refused, x.Provider, subject)
		}
		token = NewToken(t.AccessToken, t.Expiry)
		if t.Expiry.IsZero() { // the answer need not say
			token.Expiry = x.now().Add(time.Hour)
			if subject.Expiry.Before(token.Expiry) {
				token.Expiry = subject.Expiry
			}
		}
		token.origin = subject.origin
		token = token.from(func(o *origin) { o.Principal = federatedMember(x.Provider, w.KSA) })
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
	source Source                     // of federated tokens
	short  func(time.Duration) Source // of those that live for so long at most
}

func (f federated) bearer(ctx context.Context, w identity.Workload) (Token, error) {
	// What the GSA's token may do is decided at the next hop. That hop needs IAM.
	// The GSA is no part of a federated token's key: all that a KSA was ever
	// annotated with share it.
	w.GSA, w.Delegates = "", ""
	return f.source.AccessToken(ctx, w, Scopes{CloudPlatform})
}

func (f federated) unlinked(ctx context.Context, w identity.Workload, scopes Scopes, life time.Duration) (Token, error) {
	if life > 0 {
		return f.short(life).AccessToken(ctx, w, scopes)
	}
	return f.source.AccessToken(ctx, w, scopes)
}
