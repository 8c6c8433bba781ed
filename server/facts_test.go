package server

import (
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/internal/change"
)

// changingFacts are facts that a test can change while the server runs.
type changingFacts struct {
	mu      sync.Mutex
	facts   Facts
	changed change.Signal
}

func (f *changingFacts) get() Facts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.facts
}

func (f *changingFacts) set(set func(*Facts)) {
	f.mu.Lock()
	set(&f.facts)
	f.mu.Unlock()
	f.changed.Raise()
}

func (f *changingFacts) use(o *Options) { o.Facts, o.FactsChanged = f.get, f.changed.Next }

func withAttributes() *changingFacts {
	f := &changingFacts{facts: testFacts}
	f.facts.InstanceAttributes = map[string]string{"created-by": "projects/1/zones/a\n", "a_b": "", "zz": "true"}
	return f
}

func TestAttributes_OfOperatorAreListedAndServed(t *testing.T) {
	f := withAttributes()
	r := serve(t, linked(), f.use)
	for path, want := range map[string]string{
		"/instance/attributes/":                         "a_b\ncluster-location\ncluster-name\ncluster-uid\ncreated-by\nzz\n",
		"/instance/attributes/created-by":               "projects/1/zones/a\n",
		"/instance/attributes/a_b":                      "",
		"/instance/attributes/cluster-name":             "demo",
		"/instance/attributes/created-by?alt=json":      `"projects/1/zones/a\n"`,
		"/instance/attributes/?recursive=true":          `{"a_b":"","cluster-location":"europe-west1","cluster-name":"demo","cluster-uid":"` + testFacts.ClusterUID + `","created-by":"projects/1/zones/a\n","zz":"true"}`,
		"/instance/attributes/?recursive=true&alt=text": "a_b \ncluster-location europe-west1\ncluster-name demo\ncluster-uid " + testFacts.ClusterUID + "\ncreated-by projects/1/zones/a\n\nzz true\n",
		"/project/":                "numeric-project-id\nproject-id\n",
		"/project/?recursive=true": `{"numericProjectId":123456789012,"projectId":"demo-project"}`,
	} {
		if reply := r.do(t, get(root+path)).expect(t, 200); reply.body != want {
			t.Errorf("%s: %q, want %q", path, reply.body, want)
		}
	}
	for _, path := range []string{"/instance/attributes/other", "/instance/attributes/created-by/", "/project/attributes/", "/project/attributes", "/project/attributes/?recursive=true", "/project/attributes/created-by"} {
		r.do(t, get(root+path)).expect(t, 404)
	}

	f.set(func(f *Facts) { f.ProjectAttributes = map[string]string{"sshKeys": "none"} })
	for path, want := range map[string]string{
		"/project/":                   "attributes/\nnumeric-project-id\nproject-id\n",
		"/project/attributes/":        "sshKeys\n",
		"/project/attributes/sshKeys": "none",
		"/project/?recursive=true":    `{"attributes":{"sshKeys":"none"},"numericProjectId":123456789012,"projectId":"demo-project"}`,
	} {
		if reply := r.do(t, get(root+path)).expect(t, 200); reply.body != want {
			t.Errorf("%s: %q, want %q", path, reply.body, want)
		}
	}
	r.do(t, get(root+"/project/attributes")).expect(t, 301)
}

func TestFact_UnknownIsAwaited(t *testing.T) {
	for path, learn := range map[string]func(*Facts){
		"/instance/attributes/cluster-uid": func(f *Facts) { f.ClusterUID = testFacts.ClusterUID },
		"/instance/zone":                   func(f *Facts) { f.Zone = testFacts.Zone },
		"/instance/hostname":               func(f *Facts) { f.Hostname = testFacts.Hostname },
		"/instance/id":                     func(f *Facts) { f.InstanceID = testFacts.InstanceID },
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &changingFacts{facts: testFacts}
			f.facts.ClusterUID, f.facts.Zone, f.facts.Hostname, f.facts.InstanceID = "", "", "", ""
			p := servePipes(t, linked(), f.use)
			c := p.dial(t, "10.0.0.1:1")
			start := time.Now()
			c.do(t, get(root+path)).expect(t, 503)
			if took := time.Since(start); took != 2500*time.Millisecond {
				t.Errorf("%s: refused after %s, want 2.5s", path, took)
			}
			// The unknown facts share one wait.
			start = time.Now()
			p.dial(t, "10.0.0.2:1").do(t, get(root+"/instance/?recursive=true&alt=text")).expect(t, 200)
			if took := time.Since(start); took != 2500*time.Millisecond {
				t.Errorf("recursive response after %s, want 2.5s", took)
			}
			time.AfterFunc(time.Second, func() { f.set(learn) })
			start = time.Now()
			c.do(t, get(root+path)).expect(t, 200)
			if took := time.Since(start); took != time.Second {
				t.Errorf("%s: answered after %s, want 1s", path, took)
			}
		})
	}
}

func TestWaitForChange_EndsWhenFactChanges(t *testing.T) {
	for _, path := range []string{"/instance/attributes/created-by", "/instance/attributes/?recursive=true", "/?recursive=true"} {
		synctest.Test(t, func(t *testing.T) {
			f := withAttributes()
			c := servePipes(t, linked(), f.use).dial(t, "10.0.0.1:1")
			time.AfterFunc(time.Minute, func() { f.set(func(f *Facts) { f.Zone = "europe-west1-c" }) })
			time.AfterFunc(time.Hour, func() {
				f.set(func(f *Facts) {
					f.InstanceAttributes = maps.Clone(f.InstanceAttributes)
					f.InstanceAttributes["created-by"] = "projects/2/zones/b\n"
				})
			})
			want := time.Hour
			if path == "/?recursive=true" {
				want = time.Minute
			}
			separator := "?"
			if path != "/instance/attributes/created-by" {
				separator = "&"
			}
			start := time.Now()
			c.do(t, get(root+path+separator+"wait_for_change=true")).expect(t, 200)
			if took := time.Since(start); took != want {
				t.Errorf("%s: answered after %s, want %s", path, took, want)
			}
		})
	}
}
