package gcs

import (
	"cmp"
	"context"
	"fmt"
	"gke-metadata-emulator/integration/internal/standin"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

// Options are the properties of a [Server]. Fake is needed.
type Options struct {
	// Fake is the base URL of the fakegoogle whose tokens are accepted, like
	// http://127.0.0.1:8988.
	Fake string
	// Authorize reports whether a principal has an IAM permission, such as
	// storage.objects.create, on a bucket. The bucket is empty if buckets are listed or
	// created. Default: everything is allowed.
	Authorize func(bucket, principal, permission string) bool
	// Client looks up tokens in fakegoogle. Default: a client that never uses a proxy.
	Client *http.Client
	// Now is the clock; time.Now by default.
	Now func() time.Time
	// Log receives one line per request, without tokens; nothing is logged by
	// default.
	Log *slog.Logger
}

// Server is the stand-in as a handler: the JSON API, and the parts of the XML API that
// read and that URLs are signed for.
type Server struct {
	tokens    *standin.Tokens
	authorize func(bucket, principal, permission string) bool
	now       func() time.Time
	log       *slog.Logger
	storage   *fakestorage.Server
	records   *standin.Records[Record]
}

// New makes a stand-in without buckets.
func New(opts Options) (*Server, error) {
	tokens, err := standin.NewTokens(opts.Fake, opts.Client)
	if err != nil {
		return nil, fmt.Errorf("gcs: Options.Fake: %w", err)
	}
	storage, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, PublicHost: host})
	if err != nil {
		return nil, fmt.Errorf("gcs: %w", err)
	}
	s := &Server{
		tokens:    tokens,
		authorize: opts.Authorize,
		now:       opts.Now,
		log:       cmp.Or(opts.Log, slog.New(slog.DiscardHandler)),
		storage:   storage,
		records:   standin.NewRecords[Record](maxRecords),
	}
	if s.authorize == nil {
		s.authorize = func(string, string, string) bool { return true }
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Close frees what New made.
func (s *Server) Close() { s.storage.Stop() }

// CreateBucket makes a bucket; nothing changes if it is there.
func (s *Server) CreateBucket(name string) {
	s.storage.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: name})
}

// HasBucket reports whether there is a bucket.
func (s *Server) HasBucket(name string) bool {
	_, err := s.storage.Backend().GetBucket(name)
	return err == nil
}

// Object returns the content of an object, or false if there is none.
func (s *Server) Object(bucket, name string) ([]byte, bool) {
	object, err := s.storage.GetObject(bucket, name)
	return object.Content, err == nil
}

// ServeHTTP answers a request if its token or its signature permits it, and
// keeps a record of it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	came := r // signed as it is
	r = canonical(r)
	recorded := &recorder{Recorder: standin.Recorder{ResponseWriter: w}}
	record := Record{Time: s.now(), Method: r.Method}
	defer func() {
		record.Status = recorded.Status
		record.Object = cmp.Or(recorded.objectName(), record.Object)
		s.add(r.Context(), record)
	}()

	wanted, ok := accessesOf(r)
	if !ok {
		writeError(recorded, r, notThere())
		return
	}
	record.Bucket, record.Object = wanted[0].bucket, wanted[0].object
	recorded.keep = wanted[0].names
	var caller *standin.Caller
	var refused *refusal
	if record.Signed = isXML(r) && isSigned(r); record.Signed {
		caller, refused = s.verify(came)
	} else {
		caller, refused = s.identify(r, wanted[0])
	}
	if caller != nil {
		record.Principal, record.Through, record.KSA = caller.Principal, caller.Through, caller.KSA
		record.Remaining = caller.ExpiresAt.Sub(record.Time)
		refused = s.permit(caller, wanted)
	}
	if refused != nil {
		writeError(recorded, r, refused)
		return
	}
	// The token has been checked, and fake-gcs-server must not see it.
	r.Header.Del("Authorization")
	switch {
	case wanted[0].permission == listManagedFolders && r.Method == http.MethodGet && s.HasBucket(record.Bucket):
		recorded.Header().Set("Content-Type", "application/json; charset=UTF-8")
		_, _ = io.WriteString(recorded, `{"kind": "storage#managedFolders"}`)
	case r.Method == http.MethodDelete:
		s.storage.HTTPHandler().ServeHTTP(deletion{recorded}, r)
	default:
		s.storage.HTTPHandler().ServeHTTP(recorded, r)
	}
}

// deletion turns fake-gcs-server's answer to a successful deletion, 200 and null, which
// gcloud cannot read, into Cloud Storage's: 204 and nothing else.
type deletion struct{ *recorder }

func (d deletion) WriteHeader(status int) {
	if status == http.StatusOK {
		status = http.StatusNoContent
		d.Header().Del("Content-Type")
	}
	d.recorder.WriteHeader(status)
}

func (d deletion) Write(b []byte) (int, error) {
	if d.Status == 0 {
		d.WriteHeader(http.StatusOK)
	}
	if d.Status == http.StatusNoContent {
		return len(b), nil
	}
	return d.recorder.Write(b)
}

// permit refuses a request if its caller lacks a permission for it.
func (s *Server) permit(c *standin.Caller, wanted []access) *refusal {
	for _, a := range wanted {
		if !hasScope(c, a.write) {
			return scopeMissing()
		}
	}
	for _, a := range wanted {
		if !s.authorize(a.bucket, c.Principal, a.permission) {
			return denied(c.Principal, a.permission)
		}
	}
	return nil
}

// Serve serves the stand-in by plain HTTP until ctx ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	return serve(ctx, newHTTPServer(s, s.log), listener)
}

func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(listener)
	if ctx.Err() != nil {
		return server.Close() // also if the listener was closed before ctx ended
	}
	return fmt.Errorf("gcs on %s: %w", listener.Addr(), err)
}
