// Package credential answers one question: which Google credential of the operator
// does impersonation start from?
//
// It reads the file that Google's libraries would read. It must not know what the
// credential is used for, and it never asks a metadata server: on this machine, that is
// this program.
package credential

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"

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

// Read reads a credential file and returns its source of tokens with a scope. If the
// path is empty, it reads the file of Application Default Credentials. Tokens are
// requested by the client. Errors are of type [*Error].
func Read(path, scope string, client *http.Client) (oauth2.TokenSource, error) {
	path = File(path)
	document, err := os.ReadFile(path)
	if err != nil {
		return nil, errorf(loginRemedy, "%v", err)
	}
	var file struct {
		Type google.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(document, &file); err != nil {
		return nil, errorf(loginRemedy, "%s is not JSON: %v", path, err)
	}
	known := []google.CredentialsType{google.AuthorizedUser, google.ServiceAccount, google.ExternalAccount,
		google.ExternalAccountAuthorizedUser, google.ImpersonatedServiceAccount}
	if !slices.Contains(known, file.Type) {
		return nil, errorf(fmt.Sprintf("use one of %v", known), "%s has the type %q", path, file.Type)
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, client)
	credentials, err := google.CredentialsFromJSONWithType(ctx, document, file.Type, scope)
	if err != nil {
		return nil, errorf(loginRemedy, "%s: %v", path, err)
	}
	return credentials.TokenSource, nil
}

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
