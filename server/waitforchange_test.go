package server

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

const otherGSA = "other@demo-project.iam.gserviceaccount.com"

// A request that waits is answered by the change, at once and on the spot.
func TestWaitForChangeIsAnsweredByTheChange(t *testing.T) {
	for title, path := range map[string]string{
		"a key":                          accounts + "/default/email?wait_for_change=true",
		"a directory, recursively":       accounts + "/default/?recursive=true&wait_for_change=true",
		"the whole tree, recursively":    root + "/?recursive=true&wait_for_change=true",
		"all accounts, as text":          accounts + "/?recursive=true&alt=text&wait_for_change=true",
		"a key, with a time-out far off": accounts + "/default/email?wait_for_change=true&timeout_sec=3600",
	} {
		t.Run(title, func(t *testing.T) {
			w := linked()
			r := serve(t, w)
			answer := make(chan reply, 1)
			c := r.dial(t)
			go func() { answer <- c.ask(t, get(path)) }()
			w.awaitWaiter(t)
			w.annotate(otherGSA)
			got := <-answer
			if got.StatusCode != http.StatusOK || !strings.Contains(got.body, otherGSA) || strings.Contains(got.body, testGSA) {
				t.Errorf("%s: %s", got.Status, got.body)
			}
			if etag := got.Header.Get("ETag"); len(etag) != 16 {
				t.Errorf("ETag %q, want 16 digits", etag)
			}
		})
	}
}

// The ETag that a client has decides what a change is.
func TestLastETagDecidesWhatAChangeIs(t *testing.T) {
	w := linked()
	r := serve(t, w)
	const key = accounts + "/default/email"
	etag := r.ask(t, get(key)).Header.Get("ETag")
	if again := r.ask(t, get(key)).Header.Get("ETag"); again != etag {
		t.Errorf("the same value has the ETags %s and %s", etag, again)
	}
	// Another than the present one, and 0, which matches none: at once.
	for _, last := range []string{"0", "ffffffffffffffff"} {
		if got := r.ask(t, get(key+"?wait_for_change=true&last_etag="+last)); got.StatusCode != http.StatusOK || got.body != testGSA || got.Header.Get("ETag") != etag {
			t.Errorf("last_etag=%s: %s %s", last, got.Status, got.body)
		}
	}
	// The present one: not before the time-out, and then what is.
	start := time.Now()
	got := r.ask(t, get(key+"?wait_for_change=true&timeout_sec=1&last_etag="+etag))
	if took := time.Since(start); got.StatusCode != http.StatusOK || got.body != testGSA || took < time.Second {
		t.Errorf("after %s: %s %s", took, got.Status, got.body)
	}
	w.annotate(otherGSA)
	if now := r.ask(t, get(key)).Header.Get("ETag"); now == etag {
		t.Error("another value has the same ETag")
	}
}

// Tokens and listings do not change in this sense, and a time-out is a number.
func TestWaitForChangeRefusesWhatCannotChange(t *testing.T) {
	r := serve(t, linked())
	for _, path := range []string{
		accounts + "/default/token?wait_for_change=true",
		accounts + "/default/identity?audience=x&wait_for_change=true",
		accounts + "/default/?wait_for_change=true",
		root + "/instance/zone?wait_for_change=true&timeout_sec=soon",
		root + "/instance/zone?wait_for_change=true&timeout_sec=-1",
	} {
		if got := r.ask(t, get(path)); got.StatusCode != http.StatusBadRequest || !strings.Contains(got.body, "Invalid Request") {
			t.Errorf("%s: %s %s", path, got.Status, got.body)
		}
	}
	if got := r.ask(t, get(root+"/instance/nothing?wait_for_change=true")); got.StatusCode != http.StatusNotFound {
		t.Errorf("a key that is not there: %s", got.Status)
	}
}

// A server that is about to stop lets those who wait go, with what is.
func TestWaitForChangeEndsWithTheServer(t *testing.T) {
	w := linked()
	r := serve(t, w)
	answer := make(chan reply, 1)
	c := r.dial(t)
	go func() { answer <- c.ask(t, get(accounts+"/default/email?wait_for_change=true")) }()
	w.awaitWaiter(t)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if got := <-answer; got.StatusCode != http.StatusOK || got.body != testGSA || !got.Close {
		t.Errorf("%s %v %s", got.Status, got.Header, got.body)
	}
}

// An account that is no longer the caller's is not waited for.
func TestWaitForChangeOfAnAccountThatGoes(t *testing.T) {
	w := linked()
	r := serve(t, w)
	answer := make(chan reply, 1)
	c := r.dial(t)
	go func() { answer <- c.ask(t, get(accounts+"/"+testGSA+"/email?wait_for_change=true")) }()
	w.awaitWaiter(t)
	w.annotate(otherGSA)
	if got := <-answer; got.StatusCode != http.StatusNotFound {
		t.Errorf("%s %s", got.Status, got.body)
	}
}
