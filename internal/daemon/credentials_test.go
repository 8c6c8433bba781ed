package daemon

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

const (
	secret = "c2VjcmV0LXJlZnJlc2gtdG9rZW4"
	user   = `{"type": "authorized_user", "client_id": "id", "client_secret": "` + secret + `", "refresh_token": "` + secret + `"}`
)

func TestASourceCredentialThatCannotBeUsedIsAnErrorThatDoesNotShowIt(t *testing.T) {
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
			_, err := sourceCredential(path, http.DefaultClient)
			flagError(t, err, "source-credentials", test.text)
			if !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not name the file", err)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error %q shows the content", err)
			}
		})
	}
}

func TestTheSourceCredentialIsTheFileGivenOrTheOneOfApplicationDefaultCredentials(t *testing.T) {
	missing := "/nonexistent/credentials.json"
	configured, home := t.TempDir(), t.TempDir()
	of := func(folders ...string) string {
		return filepath.Join(append(folders, "application_default_credentials.json")...)
	}
	for _, test := range []struct {
		name                       string
		path, variable, gcloud, at string // at: which file is read
	}{
		{"the file given comes first", "/nonexistent/given.json", missing, configured, "/nonexistent/given.json"},
		{"then the environment's", "", missing, configured, missing},
		{"then gcloud's folder", "", "", configured, of(configured)},
		{"then gcloud's usual folder", "", "", "", of(home, ".config", "gcloud")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", test.variable)
			t.Setenv("CLOUDSDK_CONFIG", test.gcloud)
			t.Setenv("HOME", home)
			_, err := sourceCredential(test.path, http.DefaultClient)
			flagError(t, err, "source-credentials", test.at)
		})
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file(t, user))
	if source, err := sourceCredential("", http.DefaultClient); err != nil || source == nil {
		t.Errorf("a user's credential: %v, %v", source, err)
	}
}

func TestFilesOfImpersonationAreReadBeforeAnythingStarts(t *testing.T) {
	s := aside(impersonation())
	s.SourceCredentials = "/nonexistent/key.json"
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	flagError(t, s.Run(t.Context(), t.Output()), "source-credentials", "/nonexistent/key.json")

	s.SourceCredentials, s.Policy = file(t, user), PolicyFile
	for content, text := range map[string]string{"rules: 7": "see docs/policy.md", "rules:\n- a: 1\n  a: 2\n- a: 1\n  a: 2\n": "see docs/policy.md"} {
		s.PolicyFile = file(t, content)
		flagError(t, s.Run(t.Context(), t.Output()), "policy-file", text)
	}
	s.PolicyFile = "/nonexistent/rules.yaml"
	flagError(t, s.Run(t.Context(), t.Output()), "policy-file", s.PolicyFile)
}

func TestAKubeconfigThatCannotBeUsedIsAnErrorOfItsFlag(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	s := aside(federation())
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"": "outside a pod there is no default", "/nonexistent/config": "/nonexistent/config", file(t, "apiVersion: v1\nkind: Nothing\n"): "give the path of a kubeconfig file"} {
		s.Kubeconfig = path
		flagError(t, s.Run(t.Context(), t.Output()), "kubeconfig", text)
	}
}
