package clients

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// client is one of Google's, or one that uses Google's libraries.
type client struct {
	name string
	does string // all that work does, for the table
	// install makes it ready to run on this machine, or skips the test.
	install func(t testing.TB) installed
	// open starts the client, if it is a long-running one.
	open func(s *session, i installed) (worker, error)
	// anyVersion is set if the machine determines the version, not a lock file.
	anyVersion bool
	// sometimes are requests that do not come every time: of probes that race.
	sometimes []string
	// shortLife is the lifetime of the tokens that the client outlives; default: 20 s.
	shortLife time.Duration
}

// shortLife is shorter than the remaining lifetime at which any library renews a token,
// and longer than an upload takes on a busy machine.
const shortLife = 20 * time.Second

// installed is a client that can run here.
type installed struct {
	version string
	program []string // absolute path and leading arguments
	path    string   // PATH for other programs that it looks up; mostly empty, as in a minimal image
}

// worker is a client in a sandbox. Errors hold no tokens.
type worker interface {
	// work does all that the client can do, and checks it.
	work() error
	// write writes an object or image of this name and reads it back.
	write(name string) error
}

// session is a client's sandbox and the server before it.
type session struct {
	t      testing.TB
	server *metadataServer
	*sandbox
	env []string
}

func newSession(t testing.TB, m *metadataServer, i installed) *session {
	t.Helper()
	box := newSandbox(t, m.podIP, m.address, m.google)
	return &session{t: t, server: m, sandbox: box, env: box.environment(t, i.path)}
}

// do runs one of the client's programs to its end.
func (s *session) do(program ...string) (string, error) { return s.run(s.t, s.env, program...) }

// checkAccess returns an error unless the token belongs to the right GSA.
func (s *session) checkAccess(token string) error {
	got, err := s.server.google.inspect(s.t.Context(), token)
	if err != nil {
		return err
	}
	if got.Principal != "serviceAccount:"+s.server.gsa {
		return fmt.Errorf("access token of %s, want %s", got.Principal, s.server.gsa)
	}
	if !slices.Contains(got.Scopes, cloudPlatform) {
		return fmt.Errorf("access token with the scopes %s", got.Scopes)
	}
	return nil
}

const audience = "https://example.com/audience"

// checkID returns an error unless Google signed the token for the audience and the
// right GSA.
func (s *session) checkID(token string) error {
	claims, err := s.server.google.claims(s.t.Context(), token)
	if err != nil {
		return err
	}
	if claims.Audience != audience || claims.Email != s.server.gsa || claims.Issuer != "https://accounts.google.com" {
		return fmt.Errorf("ID token for %q of %q by %q", claims.Audience, claims.Email, claims.Issuer)
	}
	return nil
}

// use is one request to Cloud Storage or the image registry.
type use struct {
	principal string
	write     bool
	status    int
	expiry    time.Time // of the access token
}

// uses are the requests for an object or image.
func (s *session) uses(name string) []use {
	var found []use
	for _, r := range s.server.google.storage.Records() {
		if r.Object == name {
			found = append(found, use{r.Principal, r.Method != http.MethodGet && r.Method != http.MethodHead, r.Status, r.Time.Add(r.Remaining)})
		}
	}
	for _, r := range s.server.google.registry.recorded() {
		if strings.Contains(r.Path, "/"+name+"/") {
			found = append(found, use{r.Principal, r.Method == http.MethodPut, r.Status, r.Expiry})
		}
	}
	return found
}

// written returns the use that wrote an object or image, after the right GSA, and no other
// principal, has written and read it.
func (s *session) written(name string) (use, error) {
	var writing *use
	read := false
	uses := s.uses(name)
	for i, u := range uses {
		if u.principal != "serviceAccount:"+s.server.gsa {
			return use{}, fmt.Errorf("%s: a request by %q: %+v", name, u.principal, u)
		}
		if u.status/100 != 2 {
			continue
		}
		if u.write {
			writing = &uses[i]
		} else {
			read = true
		}
	}
	if writing == nil || !read {
		return use{}, fmt.Errorf("%s was not both written and read: %+v", name, uses)
	}
	return *writing, nil
}

// write lets a client write, and checks that it was the right GSA that did.
func (s *session) write(w worker, name string) (use, error) {
	if err := w.write(name); err != nil {
		return use{}, err
	}
	return s.written(name)
}

// waiting returns when a request that needs the pod's identity is under way.
func (s *session) waiting(within time.Duration) (seen, error) {
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), within, fmt.Errorf("the client has asked for no identity within %s", within))
	defer cancel()
	return s.relay.wait(ctx, "/service-accounts/")
}
