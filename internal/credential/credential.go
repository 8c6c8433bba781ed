// Package credential answers one question: which Google credential of the operator
// does impersonation start from?
//
// It reads the file that Google's libraries would read: its tokens, the project that is
// billed, and its owner. It must not know what the credential is used for, nor when its file
// changes, and it never asks a metadata server: on this machine, that is this program.
package credential

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

const loginRemedy = "run 'gcloud auth application-default login' or give the path of a credentials file"

// Error is a problem with a credential file and its remedy. It contains nothing of the
// file's content.
type Error struct{ Problem, Remedy string }

func (e *Error) Error() string { return e.Problem + "; " + e.Remedy }

func errorf(remedy, format string, args ...any) error {
	return &Error{Problem: fmt.Sprintf(format, args...), Remedy: remedy}
}

// Credential is a credential file's content. It is an [oauth2.TokenSource] that caches.
// Its methods are safe for concurrent use.
type Credential struct {
	// Path is the file's.
	Path string

	scope   string
	client  *http.Client
	content atomic.Pointer[Content]
}

// Content is what [Credential.Parse] has read.
type Content struct {
	tokens       oauth2.TokenSource // caches
	quotaProject string
	member       string
	user         bool
	digest       [sha256.Size]byte
}

// Read reads a credential file. If the path is empty, it reads the file of Application
// Default Credentials. Tokens have the scope and are requested by the client. Errors are
// of type [*Error].
func Read(path, scope string, client *http.Client) (*Credential, error) {
	c := &Credential{Path: File(path), scope: scope, client: client}
	file, err := os.ReadFile(c.Path)
	if err != nil {
		return nil, errorf(loginRemedy, "%v", err)
	}
	content, err := c.Parse(file)
	if err != nil {
		return nil, err
	}
	c.Replace(content)
	return c, nil
}

// Parse returns the content of a changed file. Errors are of type
// [*Error].
func (c *Credential) Parse(content []byte) (*Content, error) {
	var f document
	if err := json.Unmarshal(content, &f); err != nil {
		return nil, errorf(loginRemedy, "%s is not JSON: %v", c.Path, err)
	}
	known := []google.CredentialsType{google.AuthorizedUser, google.ServiceAccount, google.ExternalAccount,
		google.ExternalAccountAuthorizedUser, google.ImpersonatedServiceAccount}
	if !slices.Contains(known, f.Type) {
		return nil, errorf(fmt.Sprintf("use one of %v", known), "%s has the type %q", c.Path, f.Type)
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, c.client)
	credentials, err := google.CredentialsFromJSONWithType(ctx, content, f.Type, c.scope)
	if err != nil {
		return nil, errorf(loginRemedy, "%s: %v", c.Path, err)
	}
	return &Content{tokens: credentials.TokenSource, quotaProject: f.QuotaProject, member: f.member(), user: f.Type == google.AuthorizedUser, digest: sha256.Sum256(content)}, nil
}

// Replace puts content into effect. Tokens of the previous one are not returned any more.
func (c *Credential) Replace(content *Content) { c.content.Store(content) }

// Content is that in effect.
func (c *Credential) Content() *Content { return c.content.Load() }

// Equal reports whether both were read from the same document.
func (c *Content) Equal(other *Content) bool { return c.digest == other.digest }

// IsUser reports whether the credential is a person's login.
func (c *Content) IsUser() bool { return c.user }

// Token implements [oauth2.TokenSource].
func (c *Credential) Token() (*oauth2.Token, error) { return c.Content().tokens.Token() }

// QuotaProject is the project that Google's libraries bill for calls with this credential,
// or empty if there is none. The variable comes first, as in google-auth and in
// google.golang.org/api (internal/creds.go, v0.311.0).
func (c *Credential) QuotaProject() string {
	return cmp.Or(os.Getenv("GOOGLE_CLOUD_QUOTA_PROJECT"), c.Content().quotaProject)
}

// Member is IAM's name of the credential's owner, for double quotes in a shell command. The
// shell asks gcloud for the part that the file does not tell. A part in capital letters is
// left to the reader.
func (c *Credential) Member() string { return c.Content().member }

// Digest is different for different documents.
func (c *Credential) Digest() [sha256.Size]byte { return c.Content().digest }

// File returns the file that [Read] reads. Application Default Credentials are
// searched in the order of https://docs.cloud.google.com/docs/authentication/application-default-credentials.
func File(path string) string {
	if path == "" {
		return cmp.Or(os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"), gcloudFile())
	}
	return path
}

// gcloudFile is the file that gcloud auth application-default login writes.
func gcloudFile() string {
	folder := os.Getenv("CLOUDSDK_CONFIG")
	if folder == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "/"
		}
		folder = filepath.Join(home, ".config", "gcloud")
	}
	return filepath.Join(folder, "application_default_credentials.json")
}
