package tokens

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/oauth2"
)

// keysRemedy names the key that signed a refused KSA token, and the command that uploads
// the cluster's keys to the provider. Google's response names neither: after a rotation
// the cluster's signing key is just an unknown key.
func keysRemedy(r refusal) string {
	return fmt.Sprintf("%s A provider with an uploaded JWKS accepts only the keys in it. "+
		"If the keys were uploaded and the cluster's signing key has changed, upload them again:\n"+
		"%s\n"+
		"A provider without uploaded keys fetches them from the issuer, which must be reachable from the Internet.",
		signedBy(r.subject), uploadKeysCommand(r.provider))
}

// fleetHost is the host in a membership's name.
const fleetHost = "https://gkehub.googleapis.com/"

// membershipName matches a fleet's membership; its submatches are the project, the location
// and the membership.
var membershipName = regexp.MustCompile(`^` + regexp.QuoteMeta(fleetHost) + `projects/([^/]+)/locations/([^/]+)/memberships/([^/]+)$`)

// uploadKeysCommand is the command that uploads the cluster's keys to a provider or to a
// fleet's membership. gcloud 528 updates the keys of a membership (authority.oidcJwks) only
// as part of a registration, which can be repeated and takes the project only by its ID.
func uploadKeysCommand(provider string) string {
	match := membershipName.FindStringSubmatch(provider)
	if match == nil {
		return "kubectl get --raw /openid/v1/jwks > jwks.json\n" +
			"gcloud iam workload-identity-pools providers update-oidc " + providerPath(provider) + " --jwk-json-path=jwks.json"
	}
	project := match[1]
	if strings.Trim(project, "0123456789") == "" {
		project = "$(gcloud projects describe " + project + " --format='value(projectId)')"
	}
	return fmt.Sprintf(`gcloud container fleet memberships register %s --project=%s --location=%s --context="$(kubectl config current-context)" --enable-workload-identity --has-private-issuer`,
		match[3], project, match[2])
}

// providerPath is a provider's name as gcloud takes it.
func providerPath(provider string) string {
	return strings.TrimPrefix(provider, "//iam.googleapis.com/")
}

// describeCommand shows the state of a provider or of a fleet's membership.
func describeCommand(provider string) string {
	if membershipName.MatchString(provider) {
		return "gcloud container fleet memberships describe " + strings.TrimPrefix(provider, fleetHost)
	}
	return "gcloud iam workload-identity-pools providers describe " + providerPath(provider)
}

// invalidGrant reports whether STS refused the KSA's token itself. RFC 6749 says no more
// than "invalid, expired, revoked".
func invalidGrant(err error) bool {
	var e *oauth2.RetrieveError
	return errors.As(err, &e) && e.Response != nil && oauthAnswer(stsService, e).code == "invalid_grant"
}

// signedBy names the key and the issuer in a token.
func signedBy(subject Token) string {
	claims, keyID, err := parseJWT(subject.Value())
	if err != nil {
		return "The metadata server cannot parse the token."
	}
	return fmt.Sprintf("The token was signed with key %s of issuer %s.", keyID, claims.Issuer)
}
