package server

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

func TestAccessToken_PassesScopes(t *testing.T) {
	const a, b = "https://www.googleapis.com/auth/devstorage.read_only", "https://www.googleapis.com/auth/sqlservice.login"
	w := linked()
	r := serve(t, w)
	both := tokens.Scopes{a, b}
	for _, test := range []struct {
		query string
		want  tokens.Scopes
	}{
		{"", tokens.DefaultScopes()},
		{"?scopes=", tokens.DefaultScopes()},
		{"?scopes=,%20,", tokens.DefaultScopes()},
		{"?scopes=" + a, tokens.Scopes{a}},
		{"?scopes=" + url.QueryEscape(a), tokens.Scopes{a}},
		{"?scopes=" + a + "," + b, both},
		{"?scopes=" + b + "," + a, both},
		{"?scopes=" + url.QueryEscape(a+","+b), both},
		{"?scopes=" + a + "%20" + b, both},
		{"?scopes=" + a + "+" + b, both},
		{"?scopes=" + a + ",%20" + b + ",", both},
		{"?scopes=" + a + "&scopes=" + b, both},
		{"?scopes=" + a + "," + a, tokens.Scopes{a}},
		{"?enforce_scopes=false&transport=grpc&scopes=" + a, tokens.Scopes{a}},
	} {
		r.do(t, get(accounts+"/default/token"+test.query)).expect(t, 200)
		if diff := cmp.Diff(test.want, w.scopes[len(w.scopes)-1]); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.query, diff)
		}
	}
}

// The encoded token is reused only within a second.
func TestAccessToken_ExpiresInIsUpdatedOnKeptConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		clock := func(o *Options) { o.Now = func() time.Time { return now.Add(time.Since(start)) } }
		c := servePipes(t, linked(), clock).dial(t, "10.0.0.1:1")
		body := func() string { return c.do(t, get(accounts+"/default/token")).expect(t, 200).body }
		first := body()
		if second := body(); second != first {
			t.Errorf("in the same second %s and %s", first, second)
		}
		time.Sleep(time.Minute)
		if later := body(); !strings.Contains(first, `"expires_in":3599,`) || !strings.Contains(later, `"expires_in":3539,`) {
			t.Errorf("%s, and a minute later %s", first, later)
		}
	})
}

func TestIDToken_PassesParameters(t *testing.T) {
	w := linked()
	r := serve(t, w)
	for query, want := range map[string]tokens.IDTokenRequest{
		"audience=https://shop.example":                       {Audience: "https://shop.example"},
		"audience=https%3A%2F%2Fshop.example%2F%3Fa%26b":      {Audience: "https://shop.example/?a&b"},
		"audience=x&format=full&licenses=TRUE":                {Audience: "x", Format: "full", Licenses: true},
		"format=standard&licenses=false&audience=x":           {Audience: "x", Format: "standard"},
		"audience=x&licenses=true&bindCertificateFingerprint": {Audience: "x", Licenses: true},
	} {
		if reply := r.do(t, get(accounts+"/default/identity?"+query)).expect(t, 200); reply.body != idSecret {
			t.Errorf("%s: body %q", query, reply.body)
		}
		if diff := cmp.Diff(want, w.idTokens[len(w.idTokens)-1]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
}

func TestLog_ContainsCauseThatPodDoesNotSee(t *testing.T) {
	const detail = "dial tcp 192.0.2.1:443: connect: connection refused"
	w := linked()
	w.onToken = failWith(&tokens.Error{Kind: tokens.Unavailable, Message: "IAM could not be reached", Detail: detail})
	r := serve(t, w)
	reply := r.do(t, get(accounts+"/default/token")).expect(t, 503)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(reply.body, detail) || !strings.Contains(r.log.String(), `cause="`+detail+`"`) {
		t.Errorf("body %q, log:\n%s", reply.body, r.log.String())
	}
}

func TestLog_NeverContainsTokens(t *testing.T) {
	withSecrets := func(err error) error { return fmt.Errorf("%w: %s %s", err, accessSecret, idSecret) }
	w := linked()
	worlds := []*world{w, linked(), linked(), linked(), linked()}
	worlds[1].onToken = failWith(&tokens.Error{Kind: tokens.Denied, Message: "denied", Err: withSecrets(errors.New("IAM returned"))})
	worlds[2].onToken = failWith(&tokens.Error{Kind: tokens.Unavailable, Message: "unavailable", Err: withSecrets(errors.New("IAM returned"))})
	worlds[3].onPod = failWith(identityError(identity.NotReady))
	worlds[4].tokenLifetime = -1
	for i, w := range worlds {
		r := serve(t, w)
		for _, key := range keys(testGSA) {
			r.do(t, get(withQuery(key)))
			r.do(t, bare("HEAD "+withQuery(key), "Metadata-Flavor: Google"))
		}
		r.do(t, get(root+"/unknown?access_token="+accessSecret, "Authorization: Bearer "+idSecret)).expect(t, 404)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		log := r.log.String()
		if !strings.Contains(log, "error=") {
			t.Errorf("world %d: no error was logged", i)
		}
		for _, secret := range []string{accessSecret, idSecret} {
			if strings.Contains(log, secret) {
				t.Errorf("world %d: the log contains %s:\n%s", i, secret, log)
			}
		}
	}
}
