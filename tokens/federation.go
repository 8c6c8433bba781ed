package tokens

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/principal"
)

// Federation describes how a cluster whose issuer Google trusts proves its workloads:
// the KSA's token is exchanged at Google's Security Token Service.
type Federation struct {
	Provider        string        // full name of the workload identity provider or of the fleet's membership, for messages
	Audience        string        // of the exchange, by which the Security Token Service finds the provider
	SubjectAudience string        // of the KSA tokens
	STSEndpoint     string        // https://sts.googleapis.com
	Subjects        SubjectTokens // source of the KSA tokens
}

// exchange issues federated tokens. To Google, the bearer of such a token is the KSA
// itself.
type exchange struct {
	Federation
	names    principal.Names
	subjects subjectCache  // of Federation.Subjects
	lifetime time.Duration // requested for the KSA tokens, which the federated tokens do not outlive
	client   *http.Client
	now      func() time.Time
	metrics  *metrics
}

// AccessToken implements [Source] by RFC 8693, as described by "Workload Identity
// Federation with Kubernetes" in Google's documentation. If STS refuses a cached KSA
// token, it is replaced once.
func (x *exchange) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	for retried := false; ; retried = true {
		subject, err := x.subjects.SubjectToken(ctx, w, x.SubjectAudience, x.lifetime)
		if err != nil {
			return Token{}, err
		}
		token, err := x.exchangeToken(ctx, w, scopes, subject)
		if retried || !invalidGrant(err) || !x.subjects.invalidate(w, x.SubjectAudience, x.lifetime, subject) {
			return token, err
		}
	}
}

// exchangeToken exchanges a KSA's token at STS.
func (x *exchange) exchangeToken(ctx context.Context, w identity.Workload, scopes Scopes, subject Token) (Token, error) {
	config := clientcredentials.Config{
		TokenURL:  x.STSEndpoint + "/v1/token",
		AuthStyle: oauth2.AuthStyleInParams,
		Scopes:    scopes,
		EndpointParams: url.Values{
			"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
			"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
			"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
			"audience":             {x.Audience},
			"subject_token":        {subject.Value()},
		},
	}
	var token Token
	err := callUpstream(ctx, x.metrics, "sts", func(ctx context.Context) error {
		t, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, x.client))
		if err != nil {
			return oauthError("exchange the token of service account "+w.KSA.Namespace+"/"+w.KSA.Name+" at "+x.Provider, stsService,
				refusedRequest{caller: x.names.Member(w.KSA), provider: x.Provider, subject: subject}, err)
		}
		token = NewToken(t.AccessToken, t.Expiry)
		if t.Expiry.IsZero() { // expires_in is optional in RFC 8693
			token.Expiry = x.now().Add(time.Hour)
			if subject.Expiry.Before(token.Expiry) {
				token.Expiry = subject.Expiry
			}
		}
		token.origin = subject.origin
		token = token.withOrigin(func(o *origin) { o.Principal = x.names.Member(w.KSA) })
		return nil
	})
	return token, err
}

// IDToken implements [Source]. Google issues no ID tokens to KSAs.
func (x *exchange) IDToken(_ context.Context, w identity.Workload, _ IDTokenRequest) (Token, error) {
	return Token{}, notLinked(w, "Identity Tokens")
}

// federated is the [credential] of federation.
type federated struct {
	source     Source                     // of federated tokens
	shortLived func(time.Duration) Source // of federated tokens with that lifetime at most
}

func (f federated) bearer(ctx context.Context, w identity.Workload) (Token, error) {
	// The next hop decides what the GSA's token can do; this token only has to reach
	// IAM. The GSA is not part of a federated token's key: the token is the same for
	// every GSA that the KSA is ever annotated with.
	w.GSA, w.Delegates = "", ""
	return f.source.AccessToken(ctx, w, Scopes{CloudPlatform})
}

// quotaProject implements [credential]. On GKE, a KSA's project alone is billed.
func (federated) quotaProject() string { return "" }

func (f federated) unlinkedToken(ctx context.Context, w identity.Workload, scopes Scopes, maxLifetime time.Duration) (Token, error) {
	if maxLifetime > 0 {
		return f.shortLived(maxLifetime).AccessToken(ctx, w, scopes)
	}
	return f.source.AccessToken(ctx, w, scopes)
}
