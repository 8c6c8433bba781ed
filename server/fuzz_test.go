package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/identity"
)

// handle is the handler's response to the bytes of a request; nil if they are no
// request, and net/http responds by itself.
func handle(raw string) (*http.Request, *http.Response) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		return nil, nil
	}
	w := linked()
	facts := withAttributes()
	server := New(Options{Identity: w, Tokens: w, Facts: facts.get, Now: func() time.Time { return now }})
	caller := &conn{addresses: identity.Connection{Remote: netip.MustParseAddrPort("10.0.0.1:1"), Local: netip.MustParseAddrPort("169.254.169.254:80")}}
	ctx, cancel := context.WithCancel(withConn(context.Background(), caller))
	cancel() // no request waits for a change
	recorder := httptest.NewRecorder()
	server.ServeHTTP(recorder, r.WithContext(ctx))
	return r, recorder.Result()
}

// checkResponse fails the test if a response cannot be Google's, whatever the request.
func checkResponse(t *testing.T, raw string) (*http.Request, *http.Response, string) {
	t.Helper()
	r, a := handle(raw)
	if r == nil {
		return nil, nil, ""
	}
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	body := string(b)
	if a.Header.Get("Metadata-Flavor") != "Google" || a.Header.Get("Server") != "GKE Metadata Server" {
		t.Errorf("%q: headers %v", raw, a.Header)
	}
	switch contentType := a.Header.Get("Content-Type"); a.StatusCode {
	case 200:
		known := contentType == contentText || contentType == contentJSON && json.Valid(b) || contentType == contentIDToken && strings.HasSuffix(r.URL.Path, "/identity")
		if !known {
			t.Errorf("%q: %s %q", raw, contentType, body)
		}
		if name := "ETag"; a.Header[name] == nil { // as Google writes it
			t.Errorf("%q: no ETag", raw)
		}
	case 301:
		to, err := url.Parse(a.Header.Get("Location"))
		if err != nil || r.Host != "" && to.Host != r.Host || !strings.HasSuffix(to.Path, "/") || to.RawQuery != strings.ReplaceAll(r.URL.RawQuery, "#", "%23") {
			t.Errorf("%q: redirected to %q, %v", raw, a.Header.Get("Location"), err)
		}
	case 400, 403, 404, 405:
		if contentType != "text/plain; charset=utf-8" {
			t.Errorf("%q: %s", raw, contentType)
		}
	default:
		t.Errorf("%q: status %d %q", raw, a.StatusCode, body)
	}
	if a.StatusCode != 403 && a.StatusCode != 405 && r.URL.Path != "/" && r.Header.Get("Metadata-Flavor") != "Google" {
		t.Errorf("%q: status %d without the flavor header", raw, a.StatusCode)
	}
	if _, forwarded := r.Header["X-Forwarded-For"]; forwarded && a.StatusCode != 403 && a.StatusCode != 405 {
		t.Errorf("%q: status %d through a proxy", raw, a.StatusCode)
	}
	if r.Method != "GET" && r.Method != "HEAD" && a.StatusCode < 400 {
		t.Errorf("%q: status %d", raw, a.StatusCode)
	}
	isToken, isIdentity := strings.HasSuffix(r.URL.Path, "/token"), strings.HasSuffix(r.URL.Path, "/identity")
	if strings.Contains(body, accessSecret) && !isToken || strings.Contains(body, idSecret) && !isIdentity {
		t.Errorf("%q: a token in response to another request: %q", raw, body)
	}
	return r, a, body
}

// servedPaths are the paths that are served, with their responses.
func servedPaths() map[string]string {
	bodies := map[string]string{}
	for _, account := range []string{defaultAccount, testGSA} {
		for _, path := range keys(account) {
			if _, a := handle(get(path)); a.StatusCode == 200 {
				body, _ := io.ReadAll(a.Body)
				bodies[path] = string(body)
			}
		}
	}
	for _, path := range append(directories(), "/", root+"/instance/attributes/a_b", root+"/instance/attributes/created-by", root+"/instance/attributes/zz") {
		_, a := handle(get(path))
		body, _ := io.ReadAll(a.Body)
		bodies[path] = string(body)
	}
	return bodies
}

// A path is served if and only if its decoded form is in the tree.
func FuzzPath(f *testing.F) {
	bodies := servedPaths()
	for path := range bodies {
		f.Add(path)
	}
	for _, path := range []string{"//", "/%2e", root + "/%2e%2e/v1/", root + "//instance/id", root + "/instance/%69d", "http://x" + root + "/instance/id", "*", root + "/instance", root + "/project/attributes",
		accounts + "/" + testPrincipal + "/token", accounts + "/default%2ftoken", accounts + "/a/../default/token", root + "/instance/id?", root + "/instance/id%00", "/\xff", root + "/instance/attributes/%7battribute%7d"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, target string) {
		r, a, body := checkResponse(t, "GET "+target+" HTTP/1.1\r\nHost: metadata.google.internal\r\nMetadata-Flavor: Google\r\n\r\n")
		if r == nil || r.URL.RawQuery != "" || r.Header.Get("Metadata-Flavor") != "Google" || len(r.Header) > 1 {
			return // the input changed more than the path
		}
		path := r.URL.Path
		want, served := bodies[path]
		_, directory := bodies[path+"/"]
		directory = directory && path != "" // of another scheme
		switch {
		case served && (a.StatusCode != 200 || body != want):
			t.Errorf("%q: %d %q, want %q", target, a.StatusCode, body, want)
		case !served && directory && a.StatusCode != 301:
			t.Errorf("%q: %d, want a redirect to the directory", target, a.StatusCode)
		case !served && !directory && a.StatusCode != 404 && !(a.StatusCode == 400 && strings.HasSuffix(path, "/identity")):
			t.Errorf("%q: %d %q, want 404", target, a.StatusCode, body)
		}
	})
}

// No query makes a key return another value, or changes the lifetime of a token.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{"", "recursive=true", "alt=json", "alt=text&recursive=true", "wait_for_change=true", "wait_for_change=true&last_etag=0&timeout_sec=0", "timeout_sec=-1&wait_for_change=true",
		"scopes=a,b", "scopes=a%2Cb", "scopes=a+b", "audience=https://x", "audience=x&format=full&licenses=TRUE", "a;b=c", "%zz", "recursive=TRUE", "recursive=true&recursive=false", "transport=x&enforce_scopes=1", "&&==", "alt=json&alt=text", "recursive=on&wait_for_change=Y&timeout_sec=0", "audience=a;b", "scopes=%", "alt;=%zz"} {
		f.Add(query)
	}
	paths := append(keys(defaultAccount), append(directories(), "/", root+"/instance", root+"/none")...)
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range paths {
			r, a, body := checkResponse(t, "GET "+path+"?"+query+" HTTP/1.1\r\nHost: metadata.google.internal\r\nMetadata-Flavor: Google\r\n\r\n")
			if r == nil || len(r.Header) > 1 || r.Header.Get("Metadata-Flavor") != "Google" || r.URL.Path != path {
				continue
			}
			q, err := parseQuery(r.URL.RawQuery)
			if err != nil {
				if a.StatusCode != 400 {
					t.Errorf("%s %q: %d, although a parameter cannot be decoded", path, query, a.StatusCode)
				}
				continue
			}
			waits := (&request{query: q}).boolean("wait_for_change")
			isIdentity := strings.HasSuffix(path, "/identity")
			switch {
			case path == root+"/none":
				if a.StatusCode != 404 && !(waits && a.StatusCode == 400) {
					t.Errorf("%q: %d", query, a.StatusCode)
				}
			case path == root+"/instance":
				if a.StatusCode != 301 && !(waits && a.StatusCode == 400) {
					t.Errorf("%q: %d", query, a.StatusCode)
				}
			case isIdentity && q.Get("audience") == "":
				if a.StatusCode != 400 {
					t.Errorf("%q: an ID token without an audience: %d", query, a.StatusCode)
				}
			case a.StatusCode != 200 && !(waits && a.StatusCode == 400):
				t.Errorf("%s %q: %d %q", path, query, a.StatusCode, body)
			case isIdentity && a.StatusCode == 200 && body != idSecret:
				t.Errorf("%q: %q", query, body)
			case strings.HasSuffix(path, "/token") && a.StatusCode == 200 && body != `{"access_token":"`+accessSecret+`","expires_in":3599,"token_type":"Bearer"}`:
				t.Errorf("%q: %q", query, body)
			}
		}
	})
}

// Any bytes in place of the headers, over a real connection: net/http's own responses
// are included.
func FuzzHeaders(f *testing.F) {
	for _, headers := range []string{"", "Metadata-Flavor: Google\r\n", "metadata-flavor: Google\r\n", "Metadata-Flavor: google\r\n", "Metadata-Flavor: Google\r\nMetadata-Flavor: x\r\n", "Metadata-Flavor:\tGoogle \r\n", "Metadata-Flavor: Goo\r\n gle\r\n",
		"Metadata-Flavor : Google\r\n", "X-Forwarded-For: a\r\nMetadata-Flavor: Google\r\n", "x-forwarded-for:\r\nMetadata-Flavor: Google\r\n", "Host: b\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n", "Content-Length: 5\r\n", "Connection: close\r\n", "Expect: 100-continue\r\n",
		"Upgrade: h2c\r\nConnection: Upgrade\r\n", "X: \x00\r\n", ":\r\n", "\r\nGET / HTTP/1.1\r\nHost: a\r\n"} {
		f.Add(headers)
	}
	w := linked()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- New(Options{Identity: w, Tokens: w, Facts: func() Facts { return testFacts }}).Serve(ctx, listener)
	}()
	f.Cleanup(func() {
		cancel()
		<-served
	})
	f.Fuzz(func(t *testing.T, headers string) {
		head := "GET " + accounts + "/default/token HTTP/1.1\r\nHost: metadata.google.internal\r\n" + headers
		checkResponse(t, head+"\r\n")
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
			return // the request was refused before its end
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		answers, _ := io.ReadAll(conn)
		if bytes.Contains(answers, []byte(accessSecret)) && !strings.Contains(strings.ToLower(headers), "metadata-flavor:") {
			t.Errorf("%q: a token without the flavor header: %q", headers, answers)
		}
		if len(answers) == 0 {
			return // the connection was reset
		}
		a, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answers)), nil)
		if err != nil {
			t.Fatalf("%q: not an HTTP response: %q", headers, answers)
		}
		defer a.Body.Close()
		if a.StatusCode != http.StatusContinue && (a.Header.Get("Metadata-Flavor") != "Google" || a.Header.Get("Server") != "GKE Metadata Server") {
			t.Errorf("%q: no flavor: %q", headers, answers)
		}
	})
}
