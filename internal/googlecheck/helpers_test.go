package googlecheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"
	authenticationv1 "k8s.io/api/authentication/v1"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/internal/credential"
	"gke-metadata-emulator/tokens"
)

const (
	testProject  = "scratch-project"
	otherProject = "other-project"
	testNumber   = "123456789012"
	operator     = "owner@example.com"
)

// fakeAdmin is the part of Google's APIs for owners of projects that the checks call, in
// front of the offline Google.
type fakeAdmin struct {
	google *fakegoogle.Server
	url    string
	routes *http.ServeMux
	bend   bend

	mu       sync.Mutex
	existing map[string]bool // accounts, pools and providers by name; true if it exists, false if it was removed
	disabled map[string]bool // APIs
	noticed  map[string]bool // members of policies
	bent     bool            // a request had the answer of bend
}

// bend replaces the answer to each request whose method, URI and body contain the texts.
type bend struct {
	texts  []string
	status int
	body   string
}

func (b bend) matches(r *http.Request, body []byte) bool {
	all := r.Method + " " + r.URL.RequestURI() + " " + string(body)
	for _, text := range b.texts {
		if !strings.Contains(all, text) {
			return false
		}
	}
	return len(b.texts) > 0
}

// newFakeAdmin starts an offline Google with two projects of the operator's.
func newFakeAdmin(t *testing.T, o fakegoogle.Options) *fakeAdmin {
	t.Helper()
	a := &fakeAdmin{google: fakegoogle.New(o), existing: map[string]bool{}, disabled: map[string]bool{}, noticed: map[string]bool{}, routes: http.NewServeMux()}
	for _, project := range []string{testProject, otherProject} {
		if err := a.google.Bind("projects/"+project, "roles/owner", "user:"+operator); err != nil {
			t.Fatal(err)
		}
	}
	const pools = "/v1/projects/{project}/locations/global/workloadIdentityPools"
	a.handle("POST /v1/projects/{project}/serviceAccounts", a.createAccount)
	a.handle("DELETE /v1/projects/{project}/serviceAccounts/{email}", a.deleteAccount)
	a.handle("POST /v1/projects/{project}/serviceAccounts/{call}", a.setPolicy)
	a.handle("POST "+pools, a.createPool)
	a.handle("GET "+pools+"/{pool}", a.getPool)
	a.handle("DELETE "+pools+"/{pool}", a.deletePool)
	a.handle("GET "+pools+"/{pool}/operations/{operation}", func(r *http.Request, _ []byte) (any, error) {
		return map[string]any{"name": r.URL.Path[4:], "done": true}, nil
	})
	a.handle("POST "+pools+"/{pool}/providers", a.createProvider)
	a.handle("GET /v1/roles/{role}", getRole)
	a.handle("POST /v1/projects/{project}/services/{call}", a.switchService)
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

var errElsewhere = errors.New("the offline Google answers")

type refusal struct {
	code    int
	message string
}

func (r refusal) Error() string { return r.message }

func (a *fakeAdmin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	switch {
	case a.bend.matches(r, body):
		a.mu.Lock()
		a.bent = true
		a.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.bend.status)
		_, _ = io.WriteString(w, a.bend.body)
	default:
		if _, pattern := a.routes.Handler(r); pattern != "" {
			a.routes.ServeHTTP(w, r)
			return
		}
		a.google.ServeHTTP(w, r)
	}
}

// handle adds an endpoint for the operator.
func (a *fakeAdmin) handle(pattern string, answer func(*http.Request, []byte) (any, error)) {
	a.routes.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		granted, _ := a.google.Inspect(token)
		a.mu.Lock()
		output, err := answer(r, body)
		a.mu.Unlock()
		if errors.Is(err, errElsewhere) {
			a.google.ServeHTTP(w, r)
			return
		}
		if granted.Principal != "user:"+operator || r.Header.Get("X-Goog-User-Project") != testProject {
			err = refusal{http.StatusForbidden, "The caller is not an owner, or bills another project."}
		}
		code := http.StatusOK
		if err != nil {
			refused, ok := errors.AsType[refusal](err)
			if google, is := errors.AsType[*fakegoogle.Error](err); is {
				refused = refusal{google.Code, google.Message}
			} else if !ok {
				refused = refusal{http.StatusBadRequest, err.Error()}
			}
			code = refused.code
			output = map[string]any{"error": map[string]any{"code": code, "message": refused.message}}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(output)
	})
}

func (a *fakeAdmin) createAccount(r *http.Request, body []byte) (any, error) {
	var request struct{ AccountID string }
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	email := request.AccountID + "@" + r.PathValue("project") + ".iam.gserviceaccount.com"
	a.existing[email] = true
	a.google.AddServiceAccount(email)
	return map[string]string{"email": email}, nil
}

func (a *fakeAdmin) deleteAccount(r *http.Request, _ []byte) (any, error) {
	email := r.PathValue("email")
	if !a.existing[email] {
		return nil, refusal{http.StatusNotFound, "Unknown service account"}
	}
	a.existing[email] = false
	a.google.RemoveServiceAccount(email)
	return struct{}{}, nil
}

func (a *fakeAdmin) setPolicy(r *http.Request, body []byte) (any, error) {
	email, found := strings.CutSuffix(r.PathValue("call"), ":setIamPolicy")
	if !found {
		return nil, errElsewhere
	}
	var request struct {
		Policy struct {
			Bindings []struct {
				Role    string
				Members []string
			}
		}
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	for _, b := range request.Policy.Bindings {
		for _, member := range b.Members {
			if err := a.google.CheckMember(member); err != nil {
				return nil, err
			}
			if !a.noticed[email+b.Role+member] { // at the first attempt, IAM does not know a new member yet
				a.noticed[email+b.Role+member] = true
				return nil, refusal{http.StatusBadRequest, "Service account or pool does not exist."}
			}
			if err := a.google.Bind(email, b.Role, member); err != nil {
				return nil, err
			}
		}
	}
	return request.Policy, nil
}

func (a *fakeAdmin) createPool(r *http.Request, _ []byte) (any, error) {
	name := "projects/" + testNumber + "/locations/global/workloadIdentityPools/" + r.URL.Query().Get("workloadIdentityPoolId")
	a.existing[name] = true
	return map[string]any{"name": name + "/operations/create"}, a.google.AddPool("//iam.googleapis.com/" + name)
}

func (a *fakeAdmin) poolName(r *http.Request) string {
	return "projects/" + testNumber + "/locations/global/workloadIdentityPools/" + r.PathValue("pool")
}

func (a *fakeAdmin) getPool(r *http.Request, _ []byte) (any, error) {
	if name := a.poolName(r); a.existing[name] {
		return map[string]string{"name": name}, nil
	}
	return nil, refusal{http.StatusNotFound, "Requested entity was not found."}
}

func (a *fakeAdmin) deletePool(r *http.Request, _ []byte) (any, error) {
	name := a.poolName(r)
	if !a.existing[name] {
		return nil, refusal{http.StatusNotFound, "Requested entity was not found."}
	}
	a.existing[name] = false
	return map[string]any{"name": name + "/operations/delete", "done": true}, a.google.DeletePool("//iam.googleapis.com/" + name)
}

func (a *fakeAdmin) createProvider(r *http.Request, body []byte) (any, error) {
	pool := a.poolName(r)
	var request struct {
		AttributeMapping map[string]string
		OIDC             struct{ IssuerURI, JWKSJSON string }
	}
	if err := json.Unmarshal(body, &request); err != nil || !a.existing[pool] || request.AttributeMapping["google.subject"] != "assertion.sub" {
		return nil, refusal{http.StatusBadRequest, fmt.Sprintf("%v", err)}
	}
	name := pool + "/providers/" + r.URL.Query().Get("workloadIdentityPoolProviderId")
	return map[string]any{"name": name + "/operations/create", "done": true}, a.google.AddProvider(fakegoogle.Provider{
		Name: "//iam.googleapis.com/" + name, Issuer: request.OIDC.IssuerURI, JWKS: []byte(request.OIDC.JWKSJSON),
	})
}

// getRole has the permissions of the roles as far as the offline Google has them.
func getRole(r *http.Request, _ []byte) (any, error) {
	permissions := map[string][]string{
		"iam.serviceAccountViewer":       {"get", "getIamPolicy", "list"},
		"iam.workloadIdentityUser":       {"get", "getAccessToken", "getOpenIdToken", "list"},
		"iam.serviceAccountTokenCreator": {"get", "getAccessToken", "getOpenIdToken", "implicitDelegation", "list", "signBlob", "signJwt"},
	}[r.PathValue("role")]
	var included []string
	for _, p := range permissions {
		included = append(included, "iam.serviceAccounts."+p)
	}
	return map[string]any{"name": "roles/" + r.PathValue("role"), "includedPermissions": included}, nil
}

func (a *fakeAdmin) switchService(r *http.Request, _ []byte) (any, error) {
	service, verb, _ := strings.Cut(r.PathValue("call"), ":")
	a.disabled[service] = verb == "disable"
	if a.disabled[service] {
		a.google.DisableAPI(testNumber, service)
	} else {
		a.google.EnableAPI(testNumber, service)
	}
	return map[string]any{"name": "operations/switch", "done": true}, nil
}

// operatorCredential is the credential of gcloud auth application-default login.
func (a *fakeAdmin) operatorCredential(t *testing.T) oauth2.TokenSource {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credential.json")
	if err := os.WriteFile(file, a.google.AuthorizedUser(operator, a.url+"/token"), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := credential.Read(file, tokens.CloudPlatform, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// fakeCluster is an API server that signs tokens with the key of an issuer.
type fakeCluster struct{ *issuer }

func (c fakeCluster) Document(_ context.Context, path string) ([]byte, error) {
	switch path {
	case "/.well-known/openid-configuration":
		return json.Marshal(map[string]string{"issuer": issuerURL})
	case "/openid/v1/jwks":
		keys, err := c.jwks(0)
		return []byte(keys), err
	}
	return nil, errors.New("no document " + path)
}

func (c fakeCluster) RequestToken(_ context.Context, _, _ string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	var err error
	request.Status.Token, err = c.token(request.Spec.Audiences[0], time.Duration(*request.Spec.ExpirationSeconds)*time.Second)
	return request, err
}

// testKey is the key of all issuers: the race detector makes new ones slow.
var testKey = sync.OnceValues(newKey)

// options use the fake, and do not wait.
func (a *fakeAdmin) options(t *testing.T) Options {
	t.Helper()
	key, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := newIssuer(key, "cluster-key")
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Project: testProject, DottedProject: testProject, OtherProject: otherProject, DisableAPIs: true, Cluster: fakeCluster{cluster}, newKey: testKey,
		STS: a.url, IAMCredentials: a.url, IAM: a.url, ServiceUsage: a.url,
		Credential: a.operatorCredential(t), UserCredential: true,
		Attempts: 2, Pause: func(ctx context.Context) error { return ctx.Err() },
	}
}

// remaining are the accounts and pools that exist, and the APIs that are disabled.
func (a *fakeAdmin) remaining() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var remaining []string
	for name, exists := range a.existing {
		if exists {
			remaining = append(remaining, name)
		}
	}
	for name, disabled := range a.disabled {
		if disabled {
			remaining = append(remaining, name)
		}
	}
	return remaining
}
