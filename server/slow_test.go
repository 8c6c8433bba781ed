package server

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// awaitClose waits until the server has closed the connection, and returns how long it took.
func (c *client) awaitClose(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := io.Copy(io.Discard, c.reader); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("read: %v", err)
	}
	return time.Since(start)
}

func TestReadTimeout_ClosesSilentConnection(t *testing.T) {
	for _, sent := range []string{"", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: metadata.google.internal\r\nX: y"} {
		t.Run(fmt.Sprintf("%q", sent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := servePipes(t, linked()).dial(t, "10.0.0.1:1")
				if _, err := io.WriteString(c, sent); err != nil {
					t.Fatal(err)
				}
				if took := c.awaitClose(t); took == 0 || took > 10*time.Second {
					t.Errorf("the connection was closed after %s", took)
				}
			})
		})
	}
}

// One byte a second keeps a connection from being idle, but no real client is that slow.
func TestReadTimeout_EndsSlowRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := servePipes(t, linked()).dial(t, "10.0.0.1:1")
		go func() { _, _ = io.Copy(io.Discard, c.reader) }()
		start := time.Now()
		request := get(root + "/instance/id")
		for i := range len(request) {
			if _, err := io.WriteString(c, request[i:i+1]); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("the connection was closed after %s", took)
		}
	})
}

// No endpoint reads a body, but net/http does before the next request.
func TestReadTimeout_EndsMissingBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := servePipes(t, linked()).dial(t, "10.0.0.1:1")
		c.do(t, bare("GET "+root+"/instance/id", "Metadata-Flavor: Google", "Content-Length: 1000")).expect(t, 200)
		if took := c.awaitClose(t); took > 10*time.Second {
			t.Errorf("the connection was closed after %s", took)
		}
	})
}

func TestWriteTimeout_ClosesClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePipes(t, linked())
		c := p.dial(t, "10.0.0.1:1")
		if _, err := io.WriteString(c, get(root+"/instance/id")); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		// A pipe has no buffer: the server cannot write until the client reads.
		for p.open(t) > 0 {
			time.Sleep(time.Second)
			if time.Since(start) > 2*writeTimeout {
				t.Fatalf("the connection is still open after %s", time.Since(start))
			}
		}
	})
}

func TestIdleTimeout_ClosesKeptAliveConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := servePipes(t, linked()).dial(t, "10.0.0.1:1")
		for range 3 {
			c.do(t, get(root+"/instance/id")).expect(t, 200)
			time.Sleep(idleTimeout - time.Second) // Go's clients keep theirs for 90 s
		}
		c.do(t, get(root+"/instance/id")).expect(t, 200)
		if took := c.awaitClose(t); took != idleTimeout {
			t.Errorf("the connection was closed after %s, want %s", took, idleTimeout)
		}
	})
}

func TestPipelinedRequests_AreAnsweredInOrder(t *testing.T) {
	r := serve(t, linked())
	c := r.dial(t)
	paths := []string{"/instance/id", "/project/project-id", "/nothing", "/instance/service-accounts/default/token", "/project/numeric-project-id"}
	var all strings.Builder
	for _, path := range paths {
		all.WriteString(get(root + path))
	}
	if _, err := io.WriteString(c, all.String()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{testFacts.InstanceID, testFacts.ProjectID, "Not Found\n", accessSecret, testFacts.NumericProjectID} {
		if reply := c.read(t, get(paths[i])); !strings.Contains(reply.body, want) {
			t.Errorf("response %d is %q, want the one to %s", i, reply.body, paths[i])
		}
	}
}

// The read and write timeouts do not apply to a request that waits for a change.
func TestWaitForChange_OutlivesWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := servePipes(t, linked()).dial(t, "10.0.0.1:1")
		start := time.Now()
		c.do(t, get(accounts+"/default/email?wait_for_change=true&timeout_sec=3600")).expect(t, 200)
		if took := time.Since(start); took != time.Hour {
			t.Errorf("answered after %s", took)
		}
	})
}
