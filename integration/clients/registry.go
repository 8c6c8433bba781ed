package clients

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// imageRegistry is Artifact Registry: it serves images for tokens that it issued itself, in
// exchange for an access token of Google as a password.
type imageRegistry struct {
	google    *google
	principal string // the principal that may use it
	images    http.Handler

	mu      sync.Mutex
	tokens  map[string]grant // its own
	records []imageRecord
}

// imageRecord is one request with a known caller.
type imageRecord struct {
	Principal string
	Expiry    time.Time // of the access token
	Method    string
	Path      string
	Status    int
}

func newImageRegistry(g *google, principal string) *imageRegistry {
	return &imageRegistry{
		google: g, principal: principal, tokens: map[string]grant{},
		images: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
	}
}

func (r *imageRegistry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.URL.Path == "/v2/token" {
		r.exchange(w, request)
		return
	}
	r.mu.Lock()
	caller, known := r.tokens[strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer ")]
	r.mu.Unlock()
	if !known || time.Now().After(caller.Expiry) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+registryHost+`/v2/token",service="`+registryHost+`"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	recorded := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
	r.images.ServeHTTP(recorded, request)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, imageRecord{caller.Principal, caller.Expiry, request.Method, request.URL.Path, recorded.status})
}

// exchange gives a token for an access token: see "Authentication methods" in
// Artifact Registry's documentation. Any user name will do here.
func (r *imageRegistry) exchange(w http.ResponseWriter, request *http.Request) {
	_, password, _ := request.BasicAuth()
	caller, err := r.google.inspect(request.Context(), password)
	switch {
	case err != nil:
		w.WriteHeader(http.StatusUnauthorized)
	case caller.Principal != r.principal || !slices.ContainsFunc(caller.Scopes, mayPush):
		w.WriteHeader(http.StatusForbidden)
	default:
		token := rand.Text()
		r.mu.Lock()
		r.tokens[token] = caller
		r.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
	}
}

// mayPush reports whether a scope allows pushing images: see "Access scopes" in Artifact
// Registry's documentation of Compute Engine.
func mayPush(scope string) bool {
	switch strings.TrimPrefix(scope, "https://www.googleapis.com/auth/") {
	case "cloud-platform", "devstorage.full_control", "devstorage.read_write":
		return true
	}
	return false
}

func (r *imageRegistry) recorded() []imageRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records)
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}
