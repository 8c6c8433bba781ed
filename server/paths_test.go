package server

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// Every path is requested with the flavor header and without.
func TestPath_IsNotCleanedAndCannotBypassChecks(t *testing.T) {
	r := serve(t, linked())
	for _, test := range []struct {
		target string
		with   int // the status with the flavor header
		body   string
	}{
		{target: "/" + root + "/instance/id", with: 404},
		{target: "//computeMetadata/v1/", with: 404},
		{target: root + "//instance/id", with: 404},
		{target: root + "/../v1/", with: 404},
		{target: root + "/../v1/instance/id", with: 404},
		{target: root + "/./instance/id", with: 404},
		{target: root + "/%2e%2e/v1/instance/id", with: 404},
		{target: root + "/instance/id/", with: 404},
		{target: root + "/instance/id/..", with: 404},
		{target: root + "/instance/id%00", with: 404},
		{target: root + "/instance/id%0a", with: 404},
		{target: root + "/INSTANCE/id", with: 404},
		{target: accounts + "//token", with: 404},
		{target: accounts + "//", with: 404},
		{target: accounts + "/default//token", with: 404},
		{target: accounts + "/default/../default/token", with: 404},
		{target: accounts + "/" + testGSA + "/../" + testGSA + "/token", with: 404},
		{target: accounts + "/DEFAULT/token", with: 404},
		{target: accounts + "/%20default/token", with: 404},
		{target: accounts + "/" + testGSA + "%0a/token", with: 404},
		{target: accounts + "/{account}/token", with: 404},
		{target: accounts + "/default/token/", with: 404},
		{target: accounts + "/default/unknown", with: 404},
		{target: "/0.1/meta-data/", with: 404},
		{target: "/computeMetadata/v1beta1/instance/id", with: 404},
		{target: "/latest/meta-data/", with: 404},
		{target: "/%2F", with: 404},
		{target: "//", with: 404},
		{target: "/.", with: 404},
		{target: "/%2e/", with: 404},
		// Paths are decoded, unlike on Compute Engine: some clients encode more than necessary.
		{target: "/%63omputeMetadata/v1/instance/%69d", with: 200, body: testFacts.InstanceID},
		{target: "/computeMetadata%2Fv1%2finstance/id", with: 200, body: testFacts.InstanceID},
		{target: accounts + "/cart%40demo-project.iam.gserviceaccount.com/email", with: 200, body: testGSA},
		{target: accounts + "/" + url.PathEscape(testGSA) + "/aliases", with: 200, body: "default\n"},
		{target: "http://metadata.google.internal" + root + "/instance/id", with: 200, body: testFacts.InstanceID},
		{target: "http://evil.example" + accounts + "/default/email", with: 200, body: testGSA},
		{target: "http://metadata.google.internal/" + root + "/instance/id", with: 404},
		// Unknown parameters are ignored: libraries add some.
		{target: root + "/instance/id?transport=rest&binding-enforcement=on&x", with: 200, body: testFacts.InstanceID},
		{target: accounts + "/default/email?recursive=true", with: 200, body: testGSA},
		{target: accounts + "/default/email?a;b=%zz", with: 200, body: testGSA},
	} {
		t.Run(test.target, func(t *testing.T) {
			reply := r.do(t, get(test.target)).expect(t, test.with)
			if test.body != "" && reply.body != test.body {
				t.Errorf("body %q, want %q", reply.body, test.body)
			}
			reply = r.do(t, bare("GET "+test.target)).expect(t, 403)
			if !strings.HasPrefix(reply.body, "Missing required header") {
				t.Errorf("without the flavor header: %q", reply.body)
			}
			r.do(t, get(test.target, "x-forwarded-FOR: 169.254.169.254")).expect(t, 403)
		})
	}
}

func TestPath_PrincipalCanBePercentEncoded(t *testing.T) {
	const pool = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/on-prem"
	for pool, want := range map[string]string{"": testPrincipal, pool: "principal:" + pool + "/subject/system:serviceaccount:shop:cart"} {
		f := &changingFacts{facts: testFacts}
		f.facts.Names.Pool = pool
		w := linked()
		asPrincipal(w)
		r := serve(t, w, f.use)
		for _, name := range []string{url.PathEscape(want), strings.ReplaceAll(want, "/", "%2f"), want, strings.Replace(want, "//", "/", 1)} {
			if reply := r.do(t, get(accounts+"/"+name+"/email")).expect(t, 200); reply.body != want {
				t.Errorf("%s: body %q", name, reply.body)
			}
			r.do(t, get(accounts+"/"+name)).expect(t, 301)
		}
	}
}

func TestRedirect_WithoutHostUsesLocalAddress(t *testing.T) {
	r := serve(t, linked())
	request := "GET " + root + "/instance?recursive=true HTTP/1.0\r\nMetadata-Flavor: Google\r\n\r\n"
	reply := r.do(t, request).expect(t, 301)
	if want := "http://" + r.address + root + "/instance/?recursive=true"; reply.Header.Get("Location") != want {
		t.Errorf("Location %s, want %s", reply.Header.Get("Location"), want)
	}
}

func TestMethod_OtherThanGetAndHeadIsRefused(t *testing.T) {
	r := serve(t, noLookups(t))
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "BREW"} {
		for _, path := range []string{"/", root + "/instance", root + "/instance/id", accounts + "/default/token", "/unknown"} {
			reply := r.do(t, bare(method+" "+path, "Metadata-Flavor: Google", "Content-Length: 0")).expect(t, 405)
			if got := reply.Header.Get("Allow"); got != "GET, HEAD" {
				t.Errorf("%s %s: Allow %q", method, path, got)
			}
		}
	}
	r.do(t, bare("OPTIONS *", "Metadata-Flavor: Google")).expect(t, 405)
}

func TestHeaders_AboveLimitAreRefused(t *testing.T) {
	r := serve(t, noLookups(t))
	r.do(t, get(root+"/instance/id", "X-Padding: "+strings.Repeat("x", maxHeader-1024))).expect(t, 200)
	r.do(t, get(root+"/instance/id", "X-Padding: "+strings.Repeat("x", 2*maxHeader))).expect(t, 431)
}

func TestAllowSource_RefusesEvenTheRoot(t *testing.T) {
	listener, err := net.Listen("tcp", ":0") // both families: IPv4 sources appear in IPv6 form
	if err != nil {
		t.Fatal(err)
	}
	var seen []netip.Addr
	r := serveOn(t, listener, noLookups(t), func(o *Options) {
		o.AllowSource = func(source netip.Addr) bool {
			seen = append(seen, source)
			return false
		}
	})
	r.address = fmt.Sprintf("127.0.0.1:%d", listener.Addr().(*net.TCPAddr).Port)
	for _, request := range []string{bare("GET /"), get(root + "/project/project-id"), get(accounts + "/default/token"), bare("POST /")} {
		reply := r.do(t, request).expect(t, 403)
		if want := "The metadata server serves only this machine and private networks\n"; reply.body != want {
			t.Errorf("body %q, want %q", reply.body, want)
		}
	}
	for _, source := range seen {
		if source != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("source %s, want 127.0.0.1", source)
		}
	}
}

func TestCheckHost_RefusesEvenTheRoot(t *testing.T) {
	r := serve(t, noLookups(t), func(o *Options) {
		o.CheckHost = func(host string) error {
			if host == "good.example" || host == "::1" || host == "" {
				return nil
			}
			return fmt.Errorf("do not use %s", host)
		}
	})
	const to = " HTTP/1.1\r\nMetadata-Flavor: Google\r\nHost: "
	for request, want := range map[string]int{
		"GET /" + to + "good.example\r\n\r\n":                                        200,
		"GET /" + to + "good.example:8080\r\n\r\n":                                   200,
		"GET /" + to + "[::1]:8080\r\n\r\n":                                          200,
		"GET / HTTP/1.0\r\n\r\n":                                                     200,
		"GET /" + to + "evil.example\r\n\r\n":                                        403,
		"GET /" + to + "evil.example:8080\r\n\r\n":                                   403,
		"POST /" + to + "evil.example\r\nContent-Length: 0\r\n\r\n":                  403,
		"GET " + accounts + "/default/token" + to + "evil.example\r\n\r\n":           403,
		"GET http://evil.example" + root + "/instance" + to + "good.example\r\n\r\n": 403,
	} {
		reply := r.do(t, request).expect(t, want)
		if want == 403 && reply.body != "The Host header does not name the metadata server: do not use evil.example\n" {
			t.Errorf("%s: %q", request, reply.body)
		}
	}
}

// net/http writes these responses without calling a handler.
func TestMalformedRequest_IsRefusedWithFlavor(t *testing.T) {
	r := serve(t, noLookups(t))
	for want, request := range map[int][]string{
		400: {"\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
			get("/", "X : y"), get("/", "X: \x00"), get("/%zz"), get("/ x"), get("relative"), get("/", "Content-Length: x"), get("/", "Content-Length: 1", "Content-Length: 2")},
		417: {get("/", "Expect: more")},
		431: {get("/" + strings.Repeat("x", 2*maxHeader)), get("/", strings.Repeat("X: y\r\n", maxHeader)+"X: y")},
		501: {get("/", "Transfer-Encoding: gzip")},
		505: {"GET / HTTP/3.0\r\nHost: a\r\n\r\n"},
	} {
		for _, request := range request {
			reply := r.do(t, request).expect(t, want)
			if reply.Header.Get("Metadata-Flavor") != "Google" || reply.Header.Get("Server") != "GKE Metadata Server" || !reply.Close {
				t.Errorf("%.80q: %.300q", request, reply.raw)
			}
		}
	}
}
