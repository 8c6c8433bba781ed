package googlecheck

import (
	"context"
	"fmt"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// daemonMints requests tokens by the engine that serves pods.
func daemonMints(ctx context.Context, s *scratch) (string, bool, error) {
	account, err := s.usableAccount(ctx)
	if err != nil {
		return "", false, err
	}
	federation := tokens.Federation{
		Provider: s.provider.value, Audience: s.provider.value, SubjectAudience: "https:" + s.provider.value,
		STSEndpoint: s.STS, Subjects: s.issuer.value,
	}
	engine, err := tokens.New(tokens.Options{
		Federation:             &federation,
		IAMCredentialsEndpoint: s.IAMCredentials, IAMEndpoint: s.IAM,
		HTTPClient: s.HTTPClient,
	})
	if err != nil {
		return "", false, err
	}
	defer engine.Close()
	unlinked := identity.Workload{
		Pod: identity.Pod{Namespace: ksaNamespace, Name: ksaName, UID: ksaName},
		KSA: identity.ServiceAccount{Namespace: ksaNamespace, Name: ksaName, UID: ksaName},
	}
	linked := unlinked
	linked.GSA = account
	for _, request := range []struct {
		kind string
		mint func() (tokens.Token, error)
	}{
		{"access token of the GSA", func() (tokens.Token, error) { return engine.AccessToken(ctx, linked, tokens.DefaultScopes()) }},
		{"ID token of the GSA", func() (tokens.Token, error) {
			return engine.IDToken(ctx, linked, tokens.IDTokenRequest{Audience: "https://verify.example"})
		}},
		{"access token of the KSA", func() (tokens.Token, error) { return engine.AccessToken(ctx, unlinked, tokens.DefaultScopes()) }},
	} {
		if _, err := request.mint(); err != nil {
			return fmt.Sprintf("%s: %v", request.kind, err), false, nil
		}
	}
	return "all three tokens were minted", true, nil
}
