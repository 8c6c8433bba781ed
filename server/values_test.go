package server

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestKeys_HaveContentTypeAndEnding(t *testing.T) {
	r := serve(t, linked())
	for _, key := range keys(defaultAccount) {
		reply := r.do(t, get(withQuery(key))).expect(t, 200)
		want := "application/text"
		switch {
		case strings.HasSuffix(key, "/token"):
			want = "application/json"
			if strings.Contains(reply.body, "\n") || !json.Valid([]byte(reply.body)) {
				t.Errorf("%s is not JSON on one line: %q", key, reply.body)
			}
		case strings.HasSuffix(key, "/aliases"), strings.HasSuffix(key, "/scopes"):
			if !strings.HasSuffix(reply.body, "\n") {
				t.Errorf("%s is a list without a final newline: %q", key, reply.body)
			}
		default:
			if strings.HasSuffix(key, "/identity") {
				want = "text/html"
			}
			if reply.body == "" || strings.TrimSpace(reply.body) != reply.body {
				t.Errorf("%s is not a bare value: %q", key, reply.body)
			}
		}
		if got := reply.Header["Content-Type"]; len(got) != 1 || got[0] != want {
			t.Errorf("%s has the content types %q, want %q", key, got, want)
		}
		if got := reply.Header["Metadata-Flavor"]; len(got) != 1 || got[0] != "Google" {
			t.Errorf("%s has the flavors %q", key, got)
		}
	}
}

func TestAccessToken_ExpiresInIsWholeSecondsAndNeverZero(t *testing.T) {
	for lifetime, want := range map[time.Duration]string{
		time.Hour: "3600", 3599*time.Second + 999*time.Millisecond: "3599", 400 * time.Millisecond: "1", 0: "1", -time.Minute: "1",
	} {
		w := linked()
		w.tokenLifetime = lifetime
		reply := serve(t, w).do(t, get(accounts+"/default/token")).expect(t, 200)
		var token map[string]json.RawMessage
		if err := json.Unmarshal([]byte(reply.body), &token); err != nil {
			t.Fatal(err)
		}
		if got := string(token["expires_in"]); got != want {
			t.Errorf("lifetime %s: expires_in %s, want %s", lifetime, got, want)
		}
	}
}

func TestFact_UnknownIsUnavailableAndLeftOutOfRecursiveResponses(t *testing.T) {
	r := serve(t, linked(), func(o *Options) {
		facts := testFacts
		facts.ClusterUID = ""
		o.Facts = func() Facts { return facts }
	})
	if got := r.do(t, get(root+"/instance/attributes/cluster-uid")).expect(t, 503).Header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After %q", got)
	}
	reply := r.do(t, get(root+"/instance/attributes/?recursive=true")).expect(t, 200)
	if want := `{"cluster-location":"europe-west1","cluster-name":"demo"}`; reply.body != want {
		t.Errorf("body %s, want %s", reply.body, want)
	}
}
