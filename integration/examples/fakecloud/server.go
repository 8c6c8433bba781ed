package fakecloud

import (
	"net/http"
	"strings"
	"sync"

	"gke-metadata-emulator/fakegoogle"
)

// Options are the properties of a [Server]. All are needed.
type Options struct {
	Google   *fakegoogle.Server
	Operator string            // principal with all permissions: user:EMAIL
	Projects map[string]string // their numbers by their ids
}

// Storage is Cloud Storage beside the stand-in, for objects.
type Storage interface {
	http.Handler
	CreateBucket(name string)
}

// Server is the stand-in as a handler for the APIs' hosts.
type Server struct {
	google   *fakegoogle.Server
	operator string
	projects map[string]string
	routes   *http.ServeMux

	mu        sync.Mutex
	storage   Storage
	enabled   map[projectService]bool
	waited    map[string]bool     // operations whose caller has been told to wait
	issuers   []string            // those that an organisation policy allows; all if nil
	policies  map[string]policy   // by resource: projects/ID, buckets/NAME, a repository's name
	buckets   map[string]string   // project ids by bucket
	resources map[string]resource // accounts, pools, providers and repositories by name
}

// resource is the part that all descriptions share.
type resource map[string]any

// New makes a stand-in. The operator owns the projects, in which no API is enabled.
func New(opts Options) *Server {
	s := &Server{
		google: opts.Google, operator: opts.Operator, projects: opts.Projects,
		policies: map[string]policy{}, buckets: map[string]string{}, resources: map[string]resource{},
		enabled: map[projectService]bool{}, waited: map[string]bool{},
	}
	for id, number := range s.projects {
		s.Bind("projects/"+id, "roles/owner", s.operator)
		for _, service := range fakegoogle.Services() {
			s.setEnabled(id, number, service, false)
		}
	}
	s.routes = s.mux()
	return s
}

// ServeStorage sets the stand-in that stores the objects. Requests for objects are passed on
// to it.
func (s *Server) ServeStorage(storage Storage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.storage = storage
}

const storageHost = "storage.googleapis.com"

// ServeHTTP answers for all hosts. Requests that are not for an operator are passed on to
// the offline Google or to Cloud Storage.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler, pattern := s.routes.Handler(r); pattern != "" && storagePath(r) == strings.HasPrefix(r.Host, storageHost) {
		_ = handler
		s.routes.ServeHTTP(w, r)
		return
	}
	s.mu.Lock()
	storage := s.storage
	s.mu.Unlock()
	if strings.HasPrefix(r.Host, storageHost) && storage != nil {
		storage.ServeHTTP(w, r)
		return
	}
	s.google.ServeHTTP(w, r)
}

func storagePath(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/storage/") }

func (s *Server) mux() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(*call) (any, error){
		"GET /v1/projects/{project}":                              s.getProject,
		"POST /v1/projects/{call}":                                s.projectCall,
		"POST /v1/projects/{project}/services:batchEnable":        s.batchEnable,
		"POST /v1/projects/{project}/services/{call}":             s.serviceCall,
		"GET /v1/operations/{operation}":                          s.getOperation,
		"POST /v1/projects/{project}/serviceAccounts":             s.createAccount,
		"GET /v1/projects/{project}/serviceAccounts/{account}":    s.getAccount,
		"DELETE /v1/projects/{project}/serviceAccounts/{account}": s.deleteAccount,
		"POST " + poolsPath:                                       s.createPool,
		"GET " + poolsPath:                                        s.listPools,
		"GET " + poolsPath + "/{pool}":                            s.getResource,
		"DELETE " + poolsPath + "/{pool}":                         s.deletePool,
		"POST " + poolsPath + "/{call}":                           s.undeletePool,
		"POST " + poolsPath + "/{pool}/providers":                 s.createProvider,
		"GET " + poolsPath + "/{pool}/providers/{provider}":       s.getResource,
		"PATCH " + poolsPath + "/{pool}/providers/{provider}":     s.updateProvider,
		"DELETE " + poolsPath + "/{pool}/providers/{provider}":    s.deleteProvider,
		"POST " + poolsPath + "/{pool}/providers/{call}":          s.undeleteProvider,
		"POST " + repositoriesPath:                                s.createRepository,
		"GET " + repositoriesPath + "/{call}":                     s.repositoryCall,
		"POST " + repositoriesPath + "/{call}":                    s.repositoryCall,
		"POST /storage/v1/b":                                      s.createBucket,
		"GET /storage/v1/b/{bucket}/iam":                          s.getBucketPolicy,
		"PUT /storage/v1/b/{bucket}/iam":                          s.setBucketPolicy,
	} {
		mux.Handle(pattern, s.endpoint(answer))
	}
	// Only changes of an account: the offline Google answers the rest.
	mux.HandleFunc("POST /v1/projects/{project}/serviceAccounts/{call}", func(w http.ResponseWriter, r *http.Request) {
		s.billGcloud(r)
		answer := map[string]func(*call) (any, error){"setIamPolicy": s.setAccountPolicy, "enable": s.enableAccount, "disable": s.disableAccount}
		_, verb, _ := strings.Cut(r.PathValue("call"), ":")
		if f, ours := answer[verb]; ours {
			s.endpoint(f).ServeHTTP(w, r)
			return
		}
		s.google.ServeHTTP(w, r)
	})
	return mux
}
