package server

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestEachKeyHasTheContentTypeAndTheEndThatClientsNeed(t *testing.T) {
	r := serve(t, linked())
	for _, key := range keys(defaultAccount) {
		reply := r.ask(t, get(asked(key))).expect(t, 200)
		want := "application/text"
		switch {
		case strings.HasSuffix(key, "/token"):
			want = "application/json"
			if strings.Contains(reply.body, "\n") || !json.Valid([]byte(reply.body)) {
				t.Errorf("%s is not JSON on one line: %q", key, reply.body)
			}
		case strings.HasSuffix(key, "/aliases"), strings.HasSuffix(key, "/scopes"):
			if !strings.HasSuffix(reply.body, "\n") {
				t.Errorf("%s is a list whose last line has no end: %q", key, reply.body)
			}
		default:
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

func TestExpiresInIsAWholeNumberOfSecondsAndNeverZero(t *testing.T) {
	for life, want := range map[time.Duration]string{
		time.Hour: "3600", 3599*time.Second + 999*time.Millisecond: "3599", 400 * time.Millisecond: "1", 0: "1", -time.Minute: "1",
	} {
		w := linked()
		w.life = life
		reply := serve(t, w).ask(t, get(accounts+"/default/token")).expect(t, 200)
		var token map[string]json.RawMessage
		if err := json.Unmarshal([]byte(reply.body), &token); err != nil {
			t.Fatal(err)
		}
		if got := string(token["expires_in"]); got != want {
			t.Errorf("%s left: expires_in %s, want %s", life, got, want)
		}
	}
}

func TestAFactThatIsNotKnownYetIsAskedAgainForAndLeftOutOfRecursiveAnswers(t *testing.T) {
	r := serve(t, linked(), func(o *Options) {
		facts := testFacts
		facts.ClusterUID = ""
		o.Facts = func() Facts { return facts }
	})
	if got := r.ask(t, get(root+"/instance/attributes/cluster-uid")).expect(t, 503).Header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After %q", got)
	}
	reply := r.ask(t, get(root+"/instance/attributes/?recursive=true")).expect(t, 200)
	if want := `{"cluster-location":"europe-west1","cluster-name":"demo"}`; reply.body != want {
		t.Errorf("body %s, want %s", reply.body, want)
	}
}
