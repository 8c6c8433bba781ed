package credential

import (
	"errors"
	"io"
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

// read returns the credential of a file of the test.
func read(t *testing.T, content string) *Credential {
	t.Helper()
	c, err := Read(file(t, content), scope, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	return c
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

func TestCredential_ReplacedContentIsInEffectAtOnce(t *testing.T) {
	var refreshed []string
	client := &http.Client{Transport: roundTrip(func(r *http.Request) string {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		refreshed = append(refreshed, r.Form.Get("refresh_token"))
		return `{"access_token": "token of ` + r.Form.Get("refresh_token") + `", "expires_in": 3599}`
	})}
	login := func(refreshToken string) string {
		return `{"type": "authorized_user", "refresh_token": "` + refreshToken + `", "quota_project_id": "project-of-` + refreshToken + `", "account": "` + refreshToken + `@example.com"}`
	}
	c, err := Read(file(t, login("one")), scope, client)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(user string) {
		t.Helper()
		for range 2 {
			token, err := c.Token()
			if err != nil {
				t.Fatal(err)
			}
			if token.AccessToken != "token of "+user || c.QuotaProject() != "project-of-"+user || c.Member() != "user:"+user+"@example.com" {
				t.Errorf("%s, project %s, member %s", token.AccessToken, c.QuotaProject(), c.Member())
			}
		}
	}
	expect("one")
	before := c.Digest()
	again, err := c.Parse([]byte(login("one")))
	if err != nil || !again.Equal(c.Content()) {
		t.Errorf("the same content is not equal: %v", err)
	}
	next, err := c.Parse([]byte(login("two")))
	if err != nil || next.Equal(c.Content()) {
		t.Fatalf("another content is equal: %v", err)
	}
	expect("one") // until it is replaced
	c.Replace(next)
	expect("two")
	if c.Digest() == before {
		t.Error("the digest has not changed")
	}
	if got := strings.Join(refreshed, " "); got != "one two" {
		t.Errorf("refreshed with %s: tokens are not cached", got)
	}
}

type roundTrip func(*http.Request) string

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(f(r))), Request: r}, nil
}

func TestCredential_QuotaProjectOfEnvironmentComesFirst(t *testing.T) {
	with := read(t, `{"type": "authorized_user", "quota_project_id": "from-file"}`)
	without := read(t, user)
	for _, test := range []struct{ variable, with, without string }{
		{"", "from-file", ""},
		{"from-environment", "from-environment", "from-environment"},
	} {
		t.Setenv("GOOGLE_CLOUD_QUOTA_PROJECT", test.variable)
		if got := with.QuotaProject(); got != test.with {
			t.Errorf("%q with a project in the file, want %q", got, test.with)
		}
		if got := without.QuotaProject(); got != test.without {
			t.Errorf("%q without a project in the file, want %q", got, test.without)
		}
	}
}

func TestCredential_MemberIsOwnersNameInIAM(t *testing.T) {
	const (
		external = `"audience": "//iam.googleapis.com/projects/7/locations/global/workloadIdentityPools/pool/providers/p", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token", "credential_source": {"file": "/token"}`
		through  = `"service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/ci@p.iam.gserviceaccount.com:generateAccessToken"`
	)
	for name, test := range map[string]struct{ content, want string }{
		"service account":         {`{"type": "service_account", "client_email": "ci@p.iam.gserviceaccount.com", "private_key": "x"}`, "serviceAccount:ci@p.iam.gserviceaccount.com"},
		"impersonated account":    {`{"type": "impersonated_service_account", ` + through + `, "source_credentials": ` + user + `}`, "serviceAccount:ci@p.iam.gserviceaccount.com"},
		"external, impersonated":  {`{"type": "external_account", ` + external + `, ` + through + `}`, "serviceAccount:ci@p.iam.gserviceaccount.com"},
		"external":                {`{"type": "external_account", ` + external + `}`, "principal://iam.googleapis.com/projects/7/locations/global/workloadIdentityPools/pool/subject/SUBJECT"},
		"user":                    {user, "user:$(gcloud config get account)"},
		"user with empty account": {`{"type": "authorized_user", "account": ""}`, "user:$(gcloud config get account)"},
		"user with account":       {`{"type": "authorized_user", "account": "me+x@example.com"}`, "user:me+x@example.com"},
		"user of a workforce pool": {`{"type": "external_account_authorized_user", "audience": "//iam.googleapis.com/locations/global/workforcePools/pool/providers/p",
			"refresh_token": "x", "token_url": "https://sts.googleapis.com/v1/oauthtoken", "token_info_url": "https://sts.googleapis.com/v1/introspect", "client_id": "x", "client_secret": "x"}`, "$(gcloud config get account)"},
		"account that a shell would run": {`{"type": "authorized_user", "account": "$(rm -rf ~)@example.com"}`, "user:$(gcloud config get account)"},
		"address with a quote":           {`{"type": "service_account", "client_email": "a\"b", "private_key": "x"}`, "serviceAccount:EMAIL"},
	} {
		t.Run(name, func(t *testing.T) {
			c := read(t, test.content)
			if got := c.Member(); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if got := c.Content().IsUser(); got != strings.HasPrefix(test.want, "user:") {
				t.Errorf("a user's: %t", got)
			}
		})
	}
}
