package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/identity"
)

// nobody fails the test when somebody asks who calls.
func nobody(t *testing.T) *world {
	w := linked()
	w.pod = func(context.Context) error {
		t.Error("the identity was asked")
		return who(identity.NotReady)
	}
	return w
}

func TestAStaticKeyNeverAsksWhoCalls(t *testing.T) {
	r := serve(t, nobody(t))
	static := slices.DeleteFunc(append(keys(defaultAccount), directories()...), func(path string) bool { return strings.Contains(path, "service-accounts") })
	for _, path := range append(static, "/", root, root+"/instance", accounts, accounts+"/default", accounts+"/default/", accounts+"/default/aliases", accounts+"/default/scopes") {
		if reply := r.ask(t, get(path)); reply.StatusCode != 200 && reply.StatusCode != 301 {
			t.Errorf("%s: status %d", path, reply.StatusCode)
		}
	}
}

func TestARefusedRequestNeverAsksWhoCalls(t *testing.T) {
	r := serve(t, nobody(t))
	for want, request := range map[int]string{
		403: bare("GET " + accounts + "/default/token"),
		405: bare("POST "+accounts+"/default/token", "Metadata-Flavor: Google", "Content-Length: 0"),
		404: get(root + "/instance/unknown"),
		400: get(accounts + "/default/identity"),
	} {
		r.ask(t, request).expect(t, want)
	}
	r.ask(t, get(accounts+"/default/token", "X-Forwarded-For: 10.0.0.9")).expect(t, 403)
}

func TestThePodIsLookedUpOncePerConnectionAndItsKSAOncePerChange(t *testing.T) {
	w := linked()
	r := serve(t, w)
	first := r.dial(t)
	for range 3 {
		for range 10 {
			first.ask(t, get(accounts+"/"+testGSA+"/token")).expect(t, 200)
		}
		w.event()
	}
	if pods, workloads := w.pods.Load(), w.workloads.Load(); pods != 1 || workloads != 3 {
		t.Errorf("30 requests of one connection and an event after each 10: %d look-ups of the pod and %d of its KSA, want 1 and 3", pods, workloads)
	}
	second := r.dial(t)
	second.ask(t, get(accounts+"/default/email")).expect(t, 200)
	if pods := w.pods.Load(); pods != 2 {
		t.Errorf("2 connections: %d look-ups of the pod, want 2", pods)
	}
	for i, c := range []*client{first, second} {
		seen := w.connections[i]
		if seen.Remote.String() != c.LocalAddr().String() || seen.Local.String() != r.address {
			t.Errorf("connection %d is seen as %v, want %s to %s", i, seen, c.LocalAddr(), r.address)
		}
	}
}

func TestAFailedLookUpIsNotRemembered(t *testing.T) {
	w := linked()
	failures := []error{who(identity.NotReady), who(identity.Ambiguous)}
	w.pod = func(context.Context) error {
		if len(failures) == 0 {
			return nil
		}
		err := failures[0]
		failures = failures[1:]
		return err
	}
	c := serve(t, w).dial(t)
	for _, want := range []int{503, 503, 200, 200} {
		c.ask(t, get(accounts+"/default/email")).expect(t, want)
	}
	if pods := w.pods.Load(); pods != 3 {
		t.Errorf("%d look-ups, want 3", pods)
	}
}

func TestAChangedAnnotationCountsAtTheNextRequestOfAConnection(t *testing.T) {
	w := linked()
	c := serve(t, w).dial(t)
	c.ask(t, get(accounts+"/"+testGSA+"/token")).expect(t, 200)
	w.annotate("till@demo-project.iam.gserviceaccount.com")
	if reply := c.ask(t, get(accounts+"/default/email")); reply.body != w.workload.GSA {
		t.Errorf("e-mail %q, want %q", reply.body, w.workload.GSA)
	}
	c.ask(t, get(accounts+"/"+testGSA+"/token")).expect(t, 404)
}

func TestTheConnectionOfAPodThatHasEndedIsClosed(t *testing.T) {
	w := linked()
	c := serve(t, w).dial(t)
	c.ask(t, get(accounts+"/default/token")).expect(t, 200)
	w.ksa = func() error { return who(identity.Gone) }
	w.event()
	c.ask(t, get(accounts+"/default/token")).expect(t, 403)
	if _, err := c.reader.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
}

func TestARequestWaitsForItsPodUntilIdentityWaitEnds(t *testing.T) {
	const wait = 100 * time.Millisecond
	w := linked()
	w.pod = func(ctx context.Context) error {
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("the look-up ended with %v", ctx.Err())
		}
		return who(identity.NotReady)
	}
	r := serve(t, w, func(o *Options) { o.IdentityWait = wait })
	for _, path := range []string{"/default/token", "/default/email", "/", "/" + testGSA + "/token", "/default/identity?audience=x", "/default/?recursive=true"} {
		start := time.Now()
		reply := r.ask(t, get(accounts+path)).expect(t, 503)
		if took := time.Since(start); took < wait || took > 50*wait {
			t.Errorf("%s: answered after %s, want about %s", path, took, wait)
		}
		if got := reply.Header.Get("Retry-After"); got != "1" {
			t.Errorf("%s: Retry-After %q", path, got)
		}
	}
}

func TestAPodThatIsAnnouncedMeanwhileIsAnsweredAndStaticKeysDoNotWaitForIt(t *testing.T) {
	announced := make(chan struct{})
	w := linked()
	w.pod = func(ctx context.Context) error {
		select {
		case <-announced:
			return nil
		case <-ctx.Done():
			return who(identity.NotReady)
		}
	}
	r := serve(t, w, func(o *Options) { o.IdentityWait = time.Minute })
	waiting := r.dial(t)
	request := get(accounts + "/default/token")
	if _, err := waiting.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the look-up began", func() bool { return w.pods.Load() == 1 })
	r.ask(t, get(root+"/project/project-id")).expect(t, 200)
	close(announced)
	waiting.read(t, request).expect(t, 200)
}

func TestACallerThatHangsUpEndsItsLookUp(t *testing.T) {
	ended := make(chan error, 1)
	w := linked()
	w.pod = func(ctx context.Context) error {
		<-ctx.Done()
		ended <- ctx.Err()
		return who(identity.NotReady)
	}
	r := serve(t, w, func(o *Options) { o.IdentityWait = time.Minute })
	c := r.dial(t)
	if _, err := c.Write([]byte(get(accounts + "/default/token"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the look-up began", func() bool { return w.pods.Load() == 1 })
	_ = c.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the look-up ended with %v", err)
	}
}
