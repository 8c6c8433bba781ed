package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/examples/fakecloud"
)

// agentNamespace is the namespace of Google's Connect agent.
const agentNamespace = "gke-connect"

// fleet is a project of the offline Google as its operator's gcloud sees it.
type fleet struct {
	google *fakegoogle.Running
	home   string // of the operator
	cloud  string // URL of IAM and Resource Manager
	hub    string // URL of the fleet's API
}

// startFleet starts the APIs. The project has no workload identity pool yet.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	for _, program := range []string{"gcloud", "kubectl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("this machine has no " + program)
		}
	}
	const operator = "operator@example.com"
	f := &fleet{google: fakegoogle.Start(t, fakegoogle.Options{SharedQuotaProject: true}), home: t.TempDir()}
	cloud := fakecloud.New(fakecloud.Options{Google: f.google.Server, Operator: "user:" + operator, Projects: map[string]string{projectID: projectNumber}})
	cloud.Enable(projectID, fakegoogle.Services()...)
	f.google.AddServiceAccount(writer)
	apis := httptest.NewServer(cloud)
	t.Cleanup(apis.Close)
	hub := httptest.NewServer(&fleetHub{google: f.google, memberships: map[string]hubMembership{}})
	t.Cleanup(hub.Close)
	f.cloud, f.hub = apis.URL, hub.URL
	if err := os.WriteFile(f.login(), f.google.AuthorizedUser(operator, ""), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fleet) login() string { return filepath.Join(f.home, "login.json") }

// environment is the operator's, in which gcloud calls the stand-ins.
func (f *fleet) environment() []string {
	return []string{
		"HOME=" + f.home, "PATH=" + os.Getenv("PATH"), "CLOUDSDK_CONFIG=" + filepath.Join(f.home, "gcloud"),
		"CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE=" + f.login(), "CLOUDSDK_AUTH_TOKEN_HOST=" + f.google.URL + "/token",
		"CLOUDSDK_API_ENDPOINT_OVERRIDES_IAM=" + f.cloud + "/", "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER=" + f.cloud + "/",
		"CLOUDSDK_API_ENDPOINT_OVERRIDES_GKEHUB=" + f.hub + "/",
		"CLOUDSDK_CORE_DISABLE_PROMPTS=1", "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=1", "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=1",
		"NO_GCE_CHECK=true",
	}
}

// fleetHub is the part of gkehub.googleapis.com that gcloud container fleet memberships calls.
// Of the Connect agent, gcloud installs only the namespace.
type fleetHub struct {
	google *fakegoogle.Running

	mu          sync.Mutex
	memberships map[string]hubMembership // by name
}

// hubMembership is the part of google.cloud.gkehub.v1.Membership that gcloud needs.
type hubMembership struct {
	Name       string       `json:"name"`
	ExternalID string       `json:"externalId"` // the cluster's UUID
	Authority  hubAuthority `json:"authority"`
}

type hubAuthority struct {
	Issuer   string `json:"issuer"`
	OIDCJWKS []byte `json:"oidcJwks"`
	// Google sets these:
	WorkloadIdentityPool string `json:"workloadIdentityPool"`
	IdentityProvider     string `json:"identityProvider"`
}

func (h *fleetHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // the first part is the version
	m, found := h.memberships[path]
	_, verb, _ := strings.Cut(path, ":")
	var answer any
	switch {
	case verb == "validateExclusivity":
		answer = map[string]any{"status": map[string]any{}}
	case verb == "generateExclusivityManifest":
		answer = map[string]any{}
	case verb == "generateConnectManifest":
		answer = map[string]any{"manifest": []any{map[string]any{
			"type":     map[string]any{"apiVersion": "v1", "kind": "Namespace"},
			"manifest": "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + agentNamespace + "}\n",
		}}}
	case r.Method == http.MethodPost:
		answer = h.register(w, r, path+"/"+r.URL.Query().Get("membershipId"))
	case r.Method == http.MethodPatch && found:
		answer = h.register(w, r, path)
	case strings.Contains(path, "/operations/"):
		parent, id, _ := strings.Cut(path, "/operations/")
		answer = map[string]any{"name": path, "done": true, "response": h.memberships[parent+"/memberships/"+id]}
	case found:
		answer = m
	default:
		answer = hubError(w, http.StatusNotFound, "NOT_FOUND", "Resource '"+path+"' was not found")
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// register gives Google the cluster's keys.
func (h *fleetHub) register(w http.ResponseWriter, r *http.Request, name string) any {
	if _, exists := h.memberships[name]; exists && r.Method == http.MethodPost {
		return hubError(w, http.StatusConflict, "ALREADY_EXISTS", "Resource '"+name+"' already exists")
	}
	var m hubMembership
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		return hubError(w, http.StatusBadRequest, "INVALID_ARGUMENT", err.Error())
	}
	m.Name = name
	m.Authority.IdentityProvider, m.Authority.WorkloadIdentityPool = "https://gkehub.googleapis.com/"+name, fleetPool
	if err := h.google.AddMembership(fakegoogle.Membership{
		Name: m.Authority.IdentityProvider, WorkloadPool: fleetPool, ProjectNumber: projectNumber, Issuer: m.Authority.Issuer, JWKS: m.Authority.OIDCJWKS,
	}); err != nil {
		return hubError(w, http.StatusBadRequest, "INVALID_ARGUMENT", err.Error())
	}
	h.memberships[name] = m
	parent, id, _ := strings.Cut(name, "/memberships/")
	return map[string]any{"name": parent + "/operations/" + id}
}

func hubError(w http.ResponseWriter, code int, status, message string) any {
	w.WriteHeader(code)
	return map[string]any{"error": map[string]any{"code": code, "status": status, "message": message}}
}
