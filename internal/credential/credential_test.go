package credential

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	secret = "c2VjcmV0LXJlZnJlc2gtdG9rZW4"
	scope  = "https://www.googleapis.com/auth/cloud-platform"
	user   = `{"type": "authorized_user", "client_id": "id", "client_secret": "` + secret + `", "refresh_token": "` + secret + `"}`
)

// file writes a file of the test.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// expectError fails the test unless err is one line with a problem and a remedy that
// contains text.
func expectError(t *testing.T, err error, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a problem with a remedy", err)
	}
	if e.Problem == "" || e.Remedy == "" || strings.ContainsAny(e.Error(), "\r\n") || !strings.Contains(e.Error(), text) {
		t.Errorf("error %q, want one line with a problem, a remedy and %q", e, text)
	}
}

func TestRead_RefusesUnusableFilesWithoutShowingTheirContent(t *testing.T) {
	for name, test := range map[string]struct{ content, text string }{
		"empty":                              {"", "is not JSON"},
		"no JSON":                            {secret, "is not JSON"},
		"cut off":                            {user[:len(user)-2], "is not JSON"},
		"a list":                             {`["` + secret + `"]`, "is not JSON"},
		"without a type":                     {`{"refresh_token": "` + secret + `"}`, `the type ""; use one of [authorized_user service_account`},
		"of an unknown type":                 {`{"type": "api_key", "key": "` + secret + `"}`, `the type "api_key"`},
		"with a type of another kind":        {`{"type": 7, "key": "` + secret + `"}`, "is not JSON"},
		"external without an audience":       {`{"type": "external_account", "token_url": "` + secret + `"}`, "gcloud auth application-default login"},
		"impersonated without an account":    {`{"type": "impersonated_service_account", "source_credentials": ` + user + `}`, "gcloud auth application-default login"},
		"a user with fields of another kind": {`{"type": "authorized_user", "refresh_token": {"x": "` + secret + `"}}`, "gcloud auth application-default login"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, test.content)
			_, err := Read(path, scope, http.DefaultClient)
			expectError(t, err, test.text)
			if !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not name the file", err)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error %q shows the content", err)
			}
		})
	}
}

func TestRead_FindsTheFileOfApplicationDefaultCredentials(t *testing.T) {
	missing := "/nonexistent/credentials.json"
	configured, home := t.TempDir(), t.TempDir()
	credentialsIn := func(folders ...string) string {
		return filepath.Join(append(folders, "application_default_credentials.json")...)
	}
	for _, test := range []struct {
		name                   string
		path, variable, gcloud string
		file                   string // the one that is read
	}{
		{"the file given comes first", "/nonexistent/given.json", missing, configured, "/nonexistent/given.json"},
		{"then the environment's", "", missing, configured, missing},
		{"then gcloud's folder", "", "", configured, credentialsIn(configured)},
		{"then gcloud's usual folder", "", "", "", credentialsIn(home, ".config", "gcloud")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", test.variable)
			t.Setenv("CLOUDSDK_CONFIG", test.gcloud)
			t.Setenv("HOME", home)
			_, err := Read(test.path, scope, http.DefaultClient)
			expectError(t, err, test.file)
		})
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file(t, user))
	if source, err := Read("", scope, http.DefaultClient); err != nil || source == nil {
		t.Errorf("credential of a user: %v, %v", source, err)
	}
}
