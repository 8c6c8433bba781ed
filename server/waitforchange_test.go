package server

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const otherGSA = "other@demo-project.iam.gserviceaccount.com"

// A waiting request is answered as soon as the value changes.
func TestWaitForChange_ReturnsChangedValue(t *testing.T) {
	for title, path := range map[string]string{
		"a key":                       accounts + "/default/email?wait_for_change=true",
		"a directory, recursively":    accounts + "/default/?recursive=true&wait_for_change=true",
		"the whole tree, recursively": root + "/?recursive=true&wait_for_change=true",
		"all accounts, as text":       accounts + "/?recursive=true&alt=text&wait_for_change=true",
		"a key, with a long timeout":  accounts + "/default/email?wait_for_change=true&timeout_sec=3600",
	} {
		t.Run(title, func(t *testing.T) {
			w := linked()
			r := serve(t, w)
			replies := make(chan reply, 1)
			c := r.dial(t)
			go func() { replies <- c.do(t, get(path)) }()
			w.awaitWaiter(t)
			w.annotate(otherGSA)
			got := <-replies
			if got.StatusCode != http.StatusOK || !strings.Contains(got.body, otherGSA) || strings.Contains(got.body, testGSA) {
				t.Errorf("%s: %s", got.Status, got.body)
			}
			if etag := got.Header.Get("ETag"); len(etag) != 16 {
				t.Errorf("ETag %q, want 16 digits", etag)
			}
		})
	}
}

func TestWaitForChange_ComparesLastETag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := linked()
		c := servePipes(t, w).dial(t, "10.0.0.1:1")
		const key = accounts + "/default/email"
		etag := c.do(t, get(key)).Header.Get("ETag")
		if second := c.do(t, get(key)).Header.Get("ETag"); second != etag {
			t.Errorf("the same value has the ETags %s and %s", etag, second)
		}
		// An ETag other than the current one, and 0, which matches none: answered at once.
		start := time.Now()
		for _, last := range []string{"0", "ffffffffffffffff"} {
			got := c.do(t, get(key+"?wait_for_change=true&last_etag="+last))
			if elapsed := time.Since(start); got.StatusCode != http.StatusOK || got.body != testGSA || got.Header.Get("ETag") != etag || elapsed != 0 {
				t.Errorf("last_etag=%s: after %s: %s %s", last, elapsed, got.Status, got.body)
			}
		}
		// The current ETag: answered at the timeout, with the current value.
		got := c.do(t, get(key+"?wait_for_change=true&timeout_sec=1&last_etag="+etag))
		if elapsed := time.Since(start); got.StatusCode != http.StatusOK || got.body != testGSA || elapsed != time.Second {
			t.Errorf("after %s: %s %s", elapsed, got.Status, got.body)
		}
		w.annotate(otherGSA)
		if changed := c.do(t, get(key)).Header.Get("ETag"); changed == etag {
			t.Error("a different value has the same ETag")
		}
	})
}

// wait_for_change supports neither tokens nor listings; timeout_sec must be a number.
func TestWaitForChange_RefusesTokensAndListings(t *testing.T) {
	r := serve(t, linked())
	for _, path := range []string{
		accounts + "/default/token?wait_for_change=true",
		accounts + "/default/identity?audience=x&wait_for_change=true",
		accounts + "/default/?wait_for_change=true",
		root + "/instance/zone?wait_for_change=true&timeout_sec=soon",
		root + "/instance/zone?wait_for_change=true&timeout_sec=-1",
	} {
		if got := r.do(t, get(path)); got.StatusCode != http.StatusBadRequest || !strings.Contains(got.body, "Invalid Request") {
			t.Errorf("%s: %s %s", path, got.Status, got.body)
		}
	}
	if got := r.do(t, get(root+"/instance/nothing?wait_for_change=true")); got.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown key: %s", got.Status)
	}
}

// A server that begins to stop answers waiting requests with the current value.
func TestWaitForChange_EndsWhenServerStops(t *testing.T) {
	w := linked()
	r := serve(t, w)
	replies := make(chan reply, 1)
	c := r.dial(t)
	go func() { replies <- c.do(t, get(accounts+"/default/email?wait_for_change=true")) }()
	w.awaitWaiter(t)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if got := <-replies; got.StatusCode != http.StatusOK || got.body != testGSA || !got.Close {
		t.Errorf("%s %v %s", got.Status, got.Header, got.body)
	}
}

// A request for an account that is no longer the caller's stops waiting.
func TestWaitForChange_EndsWhenAccountIsReplaced(t *testing.T) {
	w := linked()
	r := serve(t, w)
	replies := make(chan reply, 1)
	c := r.dial(t)
	go func() { replies <- c.do(t, get(accounts+"/"+testGSA+"/email?wait_for_change=true")) }()
	w.awaitWaiter(t)
	w.annotate(otherGSA)
	if got := <-replies; got.StatusCode != http.StatusNotFound {
		t.Errorf("%s %s", got.Status, got.body)
	}
}
