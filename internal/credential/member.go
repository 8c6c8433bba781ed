package credential

import (
	"regexp"
	"strings"

	"golang.org/x/oauth2/google"
)

// document is the part of a credential file that Google's library does not return.
type document struct {
	Type             google.CredentialsType `json:"type"`
	QuotaProject     string                 `json:"quota_project_id"`
	Account          string                 `json:"account"`      // of a user; gcloud leaves it empty
	ClientEmail      string                 `json:"client_email"` // of a service account
	ImpersonationURL string                 `json:"service_account_impersonation_url"`
	Audience         string                 `json:"audience"` // of an external account
}

// gcloudAccount is a shell's word for the account that gcloud is logged in with.
const gcloudAccount = "$(gcloud config get account)"

// literal matches what a shell leaves alone between double quotes.
var literal = regexp.MustCompile(`^[A-Za-z0-9@/:._+%-]+$`)

// member is IAM's name of the document's owner; see [Credential.Member].
func (f document) member() string {
	name := func(prefix, name, otherwise string) string {
		if !literal.MatchString(name) {
			name = otherwise
		}
		return prefix + name
	}
	if f.ImpersonationURL != "" && f.Type != google.ServiceAccount && f.Type != google.AuthorizedUser {
		_, account, _ := strings.Cut(f.ImpersonationURL, "/serviceAccounts/")
		account, _, _ = strings.Cut(account, ":")
		return name("serviceAccount:", account, "EMAIL")
	}
	switch f.Type {
	case google.ServiceAccount:
		return name("serviceAccount:", f.ClientEmail, "EMAIL")
	case google.AuthorizedUser:
		return name("user:", f.Account, gcloudAccount)
	case google.ExternalAccountAuthorizedUser:
		// gcloud's account is a principal://… then: "Sign in to the gcloud CLI with
		// your federated identity" in IAM's documentation (2026-11).
		return gcloudAccount
	}
	// The file does not tell the subject: the provider's mapping makes it of a token.
	pool, _, _ := strings.Cut(f.Audience, "/providers/")
	return name("principal:", pool, "//iam.googleapis.com/POOL") + "/subject/SUBJECT"
}
