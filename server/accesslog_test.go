package server

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"gke-metadata-emulator/identity"
)

func TestAccessLog_HasALinePerRequest(t *testing.T) {
	w := linked()
	r := serve(t, w)
	r.do(t, get(accounts+"/default/token?scopes=a,b&secret=x", "User-Agent: gcloud/528"))
	r.do(t, bare("POST "+root+"/instance/id", "Content-Length: 0"))
	w.onPod = failWith(identityError(identity.NotReady))
	r.do(t, get(accounts+"/default/email"))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`level=DEBUG msg=request method=GET uri="` + accounts + `/default/token?scopes=a,b&secret=..." status=200 seconds=[0-9.e-]+ source=127.0.0.1:\d+ agent=gcloud/528`,
		`level=DEBUG msg=request method=POST uri=` + root + `/instance/id status=405 .* error="Method Not Allowed`,
		`level=WARN msg=request method=GET uri=` + accounts + `/default/email status=503 .* error="what the identity says of`,
	} {
		if !regexp.MustCompile(strings.ReplaceAll(want, "?", `\?`)).MatchString(r.log.String()) {
			t.Errorf("no line matches %s in\n%s", want, r.log)
		}
	}
}

func TestAccessLog_HidesValuesOfUnknownParameters(t *testing.T) {
	for given, want := range map[string]string{
		"/":                                      "/",
		"/?":                                     "/",
		"/a%40b?recursive=true&alt=json":         "/a%40b?recursive=true&alt=json",
		"/?&access_token=secret&&last_etag=0&x":  "/?access_token=...&last_etag=0&x=...",
		"/identity?audience=https%3A%2F%2Fa.b&=": "/identity?audience=https%3A%2F%2Fa.b",
	} {
		u, err := url.ParseRequestURI(given)
		if err != nil {
			t.Fatal(err)
		}
		if got := loggedURI(u); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
}

func TestAccessLog_TruncatesLongValues(t *testing.T) {
	r := serve(t, linked())
	r.do(t, get(root+"/"+strings.Repeat("p", 4<<10)+"?audience="+strings.Repeat("q", 4<<10), "User-Agent: "+strings.Repeat("a", 4<<10))).expect(t, 404)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if log := r.log.String(); len(log) > 3<<10 || !strings.Contains(log, "ppp...") || !strings.Contains(log, "aaa...") {
		t.Errorf("%d bytes: %s", len(log), log)
	}
}
