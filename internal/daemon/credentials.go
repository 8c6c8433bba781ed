package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"gke-metadata-emulator/tokens"
)

// upstreamClient is the HTTP client for Google. Calls have deadlines of their own;
// its time-out ends those whose library knows no context.
func upstreamClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// sourceCredential reads the operator's credential: the file given, or the one
// that Application Default Credentials name. It never asks a metadata server: on
// this machine that would be this very program.
func sourceCredential(path string, client *http.Client) (oauth2.TokenSource, error) {
	const remedy = "run 'gcloud auth application-default login' or give the path of a credentials file"
	path = sourceCredentialFile(path)
	document, err := os.ReadFile(path)
	if err != nil {
		return nil, wrong("source-credentials", remedy, "%v", err)
	}
	var file struct {
		Type google.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(document, &file); err != nil {
		return nil, wrong("source-credentials", remedy, "%s is not JSON: %v", path, err)
	}
	known := []google.CredentialsType{google.AuthorizedUser, google.ServiceAccount, google.ExternalAccount,
		google.ExternalAccountAuthorizedUser, google.ImpersonatedServiceAccount}
	if !slices.Contains(known, file.Type) {
		return nil, wrong("source-credentials", fmt.Sprintf("use one of %v", known), "%s has the type %q", path, file.Type)
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, client)
	credentials, err := google.CredentialsFromJSONWithType(ctx, document, file.Type, tokens.CloudPlatform)
	if err != nil {
		return nil, wrong("source-credentials", remedy, "%s: %v", path, err)
	}
	return credentials.TokenSource, nil
}

// sourceCredentialFile is the file that is read.
func sourceCredentialFile(path string) string {
	if path == "" {
		return cmp.Or(os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"), gcloudFile())
	}
	return path
}

// gcloudFile is where gcloud auth application-default login writes.
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
