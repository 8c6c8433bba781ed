package googlecheck

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/sts/v1"

	"gke-metadata-emulator/tokens"
)

// federationChecks are about the tokens of a KSA of a cluster that is not GKE.
func federationChecks() []Check {
	checks := []Check{
		{"federation/exchange is accepted", "200: an uploaded JWKS suffices, the issuer is not asked", `"Configure Workload Identity Federation with Kubernetes"`,
			func(ctx context.Context, s *scratch) (string, bool, error) {
				_, err := s.federatedToken(ctx)
				return is(err, http.StatusOK, "")
			}},
		{"federation/federated token mints an access token", "200 with only roles/iam.workloadIdentityUser", `"Configure Workload Identity Federation with Kubernetes"`,
			func(ctx context.Context, s *scratch) (string, bool, error) {
				_, err := s.usableAccount(ctx)
				return is(err, http.StatusOK, "")
			}},
		{"federation/daemon mints all kinds of tokens", "an access token and an ID token of the GSA, and an access token of the KSA with the default scopes",
			"the three above, by the code that serves pods", daemonMints},
		{"federation/unknown signing key is invalid_grant", "400 invalid_grant", `"Troubleshoot Workload Identity Federation"; RFC 6749, section 5.2`,
			func(ctx context.Context, s *scratch) (string, bool, error) {
				if _, err := s.federatedToken(ctx); err != nil {
					return "", false, err
				}
				unknown, err := s.newIssuer("unknown-" + s.suffix)
				if err != nil {
					return "", false, err
				}
				_, err = s.exchange(ctx, unknown, time.Hour, tokens.CloudPlatform)
				return is(err, http.StatusBadRequest, "400 invalid_grant")
			}},
		{"federation/federated token does not outlive the KSA's token", "expires_in is 600 at most for a KSA token of 10 minutes", "inferred; docs/policy.md relies on it",
			func(ctx context.Context, s *scratch) (string, bool, error) {
				if _, err := s.federatedToken(ctx); err != nil {
					return "", false, err
				}
				response, err := s.exchange(ctx, s.issuer.value, 10*time.Minute, tokens.CloudPlatform)
				if err != nil {
					return is(err, http.StatusOK, "")
				}
				return fmt.Sprintf("expires_in is %d", response.ExpiresIn), response.ExpiresIn > 0 && response.ExpiresIn <= 600, nil
			}},
		{"federation/keys and token of a cluster are accepted", "200: the documents of the API server suffice for a provider", `"Configure Workload Identity Federation with Kubernetes"`, clusterToken},
		{"federation/delegate chain works", "200 from generateAccessToken with one delegate, on which the KSA has roles/iam.serviceAccountTokenCreator", "IAM Service Account Credentials API, field delegates", delegates},
	}
	for _, scope := range []string{
		"openid",
		"https://www.googleapis.com/auth/userinfo.email",
		"https://www.googleapis.com/auth/sqlservice.login",
		"https://www.googleapis.com/auth/devstorage.read_only",
	} {
		short := strings.TrimPrefix(scope, "https://www.googleapis.com/auth/")
		checks = append(checks, Check{"federation/scope " + short + " is accepted", "200 from STS", "inferred; clients of a KSA without a GSA request it",
			func(ctx context.Context, s *scratch) (string, bool, error) {
				if _, err := s.federatedToken(ctx); err != nil {
					return "", false, err
				}
				_, err := s.exchange(ctx, s.issuer.value, time.Hour, scope)
				return is(err, http.StatusOK, "")
			}})
	}
	return checks
}

// exchange exchanges a token of the KSA, signed by an issuer, at STS.
func (s *scratch) exchange(ctx context.Context, by *issuer, lifetime time.Duration, scope string) (*sts.GoogleIdentityStsV1ExchangeTokenResponse, error) {
	subject, err := by.token("https:"+s.provider.value, lifetime)
	if err != nil {
		return nil, err
	}
	return s.exchangeToken(ctx, s.provider.value, subject, scope)
}

func (s *scratch) exchangeToken(ctx context.Context, provider, subject, scope string) (*sts.GoogleIdentityStsV1ExchangeTokenResponse, error) {
	return s.sts.Token(&sts.GoogleIdentityStsV1ExchangeTokenRequest{
		GrantType:          "urn:ietf:params:oauth:grant-type:token-exchange",
		RequestedTokenType: "urn:ietf:params:oauth:token-type:access_token",
		SubjectTokenType:   "urn:ietf:params:oauth:token-type:jwt",
		SubjectToken:       subject,
		Audience:           provider,
		Scope:              scope,
	}).Context(ctx).Do()
}

// federatedToken is a token of the KSA. Its first use creates the pool and the provider,
// and waits until STS knows both.
func (s *scratch) federatedToken(ctx context.Context) (string, error) {
	return s.token.get(func() (string, error) {
		_, err := s.provider.get(func() (string, error) { return s.newOwnProvider(ctx, "own-issuer", 0) })
		if err != nil {
			return "", fmt.Errorf("create a provider: %v", err)
		}
		var token string
		err = s.eventually(ctx, func() error {
			response, err := s.exchange(ctx, s.issuer.value, time.Hour, tokens.CloudPlatform)
			if err == nil {
				token = response.AccessToken
			}
			return err
		})
		return token, err
	})
}

// principal is the KSA as a member of policies.
func (s *scratch) principal() string {
	return "principal://iam.googleapis.com/" + s.pool.value + "/subject/" + ksaSubject
}

// usableAccount is the GSA. Its first use binds the KSA to it, and waits until the binding
// has an effect.
func (s *scratch) usableAccount(ctx context.Context) (string, error) {
	return s.bound.get(func() (string, error) {
		token, err := s.federatedToken(ctx)
		if err != nil {
			return "", err
		}
		account, err := s.gsa(ctx)
		if err != nil {
			return "", err
		}
		if err := s.bindEventually(ctx, account, workloadIdentityUser, s.principal()); err != nil {
			return "", fmt.Errorf("bind %s: %v", s.principal(), err)
		}
		return account, s.eventually(ctx, func() error { return s.generate(ctx, token, account) })
	})
}

// generate requests an access token of an account, through a chain of others, with the
// federated token.
func (s *scratch) generate(ctx context.Context, token, account string, chain ...string) error {
	request := &iamcredentials.GenerateAccessTokenRequest{Scope: []string{tokens.CloudPlatform}}
	for _, email := range chain {
		request.Delegates = append(request.Delegates, "projects/-/serviceAccounts/"+email)
	}
	call := s.federated.GenerateAccessToken("projects/-/serviceAccounts/"+account, request).Context(ctx)
	call.Header().Set("Authorization", "Bearer "+token)
	_, err := call.Do()
	return err
}

// delegates uses the GSA as the delegate on the way to a second account.
func delegates(ctx context.Context, s *scratch) (string, bool, error) {
	token, err := s.federatedToken(ctx)
	if err != nil {
		return "", false, err
	}
	first, err := s.gsa(ctx)
	if err != nil {
		return "", false, err
	}
	last, err := s.newAccount(ctx, "gme-verify-end")
	if err != nil {
		return "", false, err
	}
	for _, b := range []struct{ account, member string }{{first, s.principal()}, {last, "serviceAccount:" + first}} {
		if err := s.bindEventually(ctx, b.account, tokenCreator, b.member); err != nil {
			return "", false, fmt.Errorf("bind %s: %v", b.member, err)
		}
	}
	return is(s.eventually(ctx, func() error { return s.generate(ctx, token, last, first) }), http.StatusOK, "")
}
