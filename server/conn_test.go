package server

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/identity"
)

// noLookups is a world that fails the test if the caller is looked up.
func noLookups(t *testing.T) *world {
	w := linked()
	w.onPod = func(context.Context) error {
		t.Error("the caller was looked up")
		return identityError(identity.NotReady)
	}
	return w
}

func TestConn_LooksUpNoCallerForStaticKeys(t *testing.T) {
	r := serve(t, noLookups(t))
	static := slices.DeleteFunc(append(keys(defaultAccount), directories()...), func(path string) bool { return strings.Contains(path, "service-accounts") })
	for _, path := range append(static, "/", root, root+"/instance", accounts, accounts+"/default", accounts+"/default/", accounts+"/default/aliases", accounts+"/default/scopes") {
		if reply := r.do(t, get(path)); reply.StatusCode != 200 && reply.StatusCode != 301 {
			t.Errorf("%s: status %d", path, reply.StatusCode)
		}
	}
}

func TestConn_LooksUpNoCallerForRefusedRequests(t *testing.T) {
	r := serve(t, noLookups(t))
	for want, request := range map[int]string{
		403: bare("GET " + accounts + "/default/token"),
		405: bare("POST "+accounts+"/default/token", "Metadata-Flavor: Google", "Content-Length: 0"),
		404: get(root + "/instance/unknown"),
		400: get(accounts + "/default/identity"),
	} {
		r.do(t, request).expect(t, want)
	}
	r.do(t, get(accounts+"/default/token", "X-Forwarded-For: 10.0.0.9")).expect(t, 403)
}

func TestConn_LooksUpPodOnceAndKSAAfterEachChange(t *testing.T) {
	w := linked()
	r := serve(t, w)
	first := r.dial(t)
	for range 3 {
		for range 10 {
			first.do(t, get(accounts+"/"+testGSA+"/token")).expect(t, 200)
		}
		w.event()
	}
	if pods, workloads := w.pods.Load(), w.workloads.Load(); pods != 1 || workloads != 3 {
		t.Errorf("30 requests on one connection and an event after each 10: %d lookups of the pod and %d of its KSA, want 1 and 3", pods, workloads)
	}
	second := r.dial(t)
	second.do(t, get(accounts+"/default/email")).expect(t, 200)
	if pods := w.pods.Load(); pods != 2 {
		t.Errorf("2 connections: %d lookups of the pod, want 2", pods)
	}
	for i, c := range []*client{first, second} {
		seen := w.connections[i]
		if seen.Remote.String() != c.LocalAddr().String() || seen.Local.String() != r.address {
			t.Errorf("connection %d was looked up as %v, want %s to %s", i, seen, c.LocalAddr(), r.address)
		}
	}
}

func TestConn_DoesNotCacheFailedLookup(t *testing.T) {
	w := linked()
	failures := []error{identityError(identity.NotReady), identityError(identity.Ambiguous)}
	w.onPod = func(context.Context) error {
		if len(failures) == 0 {
			return nil
		}
		err := failures[0]
		failures = failures[1:]
		return err
	}
	c := serve(t, w).dial(t)
	for _, want := range []int{503, 503, 200, 200} {
		c.do(t, get(accounts+"/default/email")).expect(t, want)
	}
	if pods := w.pods.Load(); pods != 3 {
		t.Errorf("%d lookups, want 3", pods)
	}
}

func TestConn_UsesChangedAnnotationForNextRequest(t *testing.T) {
	w := linked()
	c := serve(t, w).dial(t)
	c.do(t, get(accounts+"/"+testGSA+"/token")).expect(t, 200)
	w.annotate("till@demo-project.iam.gserviceaccount.com")
	if reply := c.do(t, get(accounts+"/default/email")); reply.body != w.workload.GSA {
		t.Errorf("e-mail %q, want %q", reply.body, w.workload.GSA)
	}
	c.do(t, get(accounts+"/"+testGSA+"/token")).expect(t, 404)
}

func TestConn_ClosesWhenPodHasEnded(t *testing.T) {
	w := linked()
	c := serve(t, w).dial(t)
	c.do(t, get(accounts+"/default/token")).expect(t, 200)
	w.onWorkload = failWith(identityError(identity.Gone))
	w.event()
	c.do(t, get(accounts+"/default/token")).expect(t, 403)
	if _, err := c.reader.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
}

// Google's libraries retry a 503, and the kernel can have a record of the next
// connection.
func TestConn_ClosesWhenUnattested(t *testing.T) {
	w := linked()
	w.onPod = failWith(identityError(identity.Unattested))
	r := serve(t, w)
	c := r.dial(t)
	reply := c.do(t, get(accounts+"/default/token")).expect(t, 503)
	if got := reply.Header.Get("Retry-After"); got != "1" || !reply.Close {
		t.Errorf("Retry-After %q, close %t; want 1 and true", got, reply.Close)
	}
	if _, err := c.reader.ReadByte(); err != io.EOF {
		t.Errorf("the connection is still open: %v", err)
	}
	w.onPod = nil
	r.do(t, get(accounts+"/default/token")).expect(t, 200)
}

func TestIdentityWait_BoundsPodLookup(t *testing.T) {
	const custom = 100 * time.Millisecond
	for option, wait := range map[time.Duration]time.Duration{0: 2500 * time.Millisecond, custom: custom} {
		synctest.Test(t, func(t *testing.T) {
			w := linked()
			w.onPod = func(ctx context.Context) error {
				<-ctx.Done()
				if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
					t.Errorf("the lookup ended with %v", ctx.Err())
				}
				return identityError(identity.NotReady)
			}
			p := servePipes(t, w, func(o *Options) { o.IdentityWait = option })
			for _, path := range []string{"/default/token", "/default/email", "/", "/" + testGSA + "/token", "/default/identity?audience=x", "/default/?recursive=true"} {
				start := time.Now()
				reply := p.dial(t, "10.0.0.1:1").do(t, get(accounts+path)).expect(t, 503)
				if elapsed := time.Since(start); elapsed != wait {
					t.Errorf("%s: answered after %s, want %s", path, elapsed, wait)
				}
				if got := reply.Header.Get("Retry-After"); got != "1" {
					t.Errorf("%s: Retry-After %q", path, got)
				}
			}
		})
	}
}

// The KSA of a known pod is awaited for as long as the pod.
func TestIdentityWait_BoundsLookupAfterChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := linked()
		c := servePipes(t, w).dial(t, "10.0.0.1:1")
		c.do(t, get(accounts+"/default/email")).expect(t, 200)
		time.Sleep(time.Minute) // longer than the bound, which starts again with each lookup
		w.onWorkload = func(ctx context.Context) error {
			<-ctx.Done()
			return identityError(identity.NotReady)
		}
		w.event()
		start := time.Now()
		c.do(t, get(accounts+"/default/email")).expect(t, 503)
		if elapsed := time.Since(start); elapsed != 2500*time.Millisecond {
			t.Errorf("answered after %s, want 2.5s", elapsed)
		}
	})
}

func TestIdentityWait_EndsWhenPodIsAnnounced(t *testing.T) {
	announced := make(chan struct{})
	w := linked()
	w.onPod = func(ctx context.Context) error {
		select {
		case <-announced:
			return nil
		case <-ctx.Done():
			return identityError(identity.NotReady)
		}
	}
	r := serve(t, w, func(o *Options) { o.IdentityWait = time.Hour })
	waiting := r.dial(t)
	request := get(accounts + "/default/token")
	if _, err := waiting.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lookup has begun", func() bool { return w.pods.Load() == 1 })
	r.do(t, get(root+"/project/project-id")).expect(t, 200)
	close(announced)
	waiting.read(t, request).expect(t, 200)
}

func TestIdentityWait_EndsWhenCallerHangsUp(t *testing.T) {
	lookupErr := make(chan error, 1)
	w := linked()
	w.onPod = func(ctx context.Context) error {
		<-ctx.Done()
		lookupErr <- ctx.Err()
		return identityError(identity.NotReady)
	}
	r := serve(t, w, func(o *Options) { o.IdentityWait = time.Hour })
	c := r.dial(t)
	if _, err := c.Write([]byte(get(accounts + "/default/token"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lookup has begun", func() bool { return w.pods.Load() == 1 })
	_ = c.Close()
	if err := <-lookupErr; !errors.Is(err, context.Canceled) {
		t.Errorf("the lookup ended with %v", err)
	}
}
