package server

import (
	"net/url"
	"strings"
	"testing"

	"gke-metadata-emulator/tokens"
)

func TestBoolean_IsReadAsOnComputeEngine(t *testing.T) {
	w := linked()
	r := serve(t, w)
	for value, want := range map[string]bool{
		"1": true, "on": true, "y": true, "Y": true, "yes": true, "YES": true, "true": true, "True": true, "TRUE": true,
		"": false, "0": false, "2": false, "01": false, "On": false, "ON": false, "t": false, "false": false, "off": false, "no": false, "%20true": false, "true&recursive=false": true,
	} {
		for _, check := range []struct {
			parameter string
			holds     func() bool
		}{
			{"recursive", func() bool {
				return strings.HasPrefix(r.do(t, get(accounts+"/default/?recursive="+value)).expect(t, 200).body, "{")
			}},
			{"wait_for_change", func() bool { // a listing cannot wait
				return r.do(t, get(accounts+"/default/?wait_for_change="+value)).StatusCode == 400
			}},
			{"licenses", func() bool {
				r.do(t, get(accounts+"/default/identity?audience=x&licenses="+value)).expect(t, 200)
				return w.idTokens[len(w.idTokens)-1].Licenses
			}},
		} {
			if got := check.holds(); got != want {
				t.Errorf("%s=%s is %t, want %t", check.parameter, value, got, want)
			}
		}
	}
}

func TestQuery_KnownParameterThatCannotBeDecodedIsRefused(t *testing.T) {
	w := linked()
	r := serve(t, w)
	for target, part := range map[string]string{
		accounts + "/default/identity?format=full&audience=https://e.org/;v=1":     "audience=https://e.org/;v=1",
		accounts + "/default/identity?format=full&audience=100%":                   "audience=100%",
		accounts + "/default/identity?audience=x&format;=full":                     "format;=full",
		accounts + "/default/token?scopes=https://a.example/b;https://a.example/c": "scopes=https://a.example/b;https://a.example/c",
		accounts + "/default/?recursive=%zz":                                       "recursive=%zz",
		accounts + "/default?recursive=%zz":                                        "recursive=%zz",
		root + "/instance/zone?wait_for_change=true&timeout_sec=1;":                "timeout_sec=1;",
	} {
		reply := r.do(t, get(target)).expect(t, 400)
		name, _, _ := strings.Cut(part, "=")
		if want := `the part "` + part + `" of the query cannot be decoded: percent-encode the value of ` + strings.TrimSuffix(name, ";") + " "; !strings.Contains(reply.body, want) {
			t.Errorf("%s: %q, want %q", target, reply.body, want)
		}
	}
	if len(w.scopes)+len(w.idTokens) != 0 {
		t.Errorf("tokens were requested: %v %v", w.scopes, w.idTokens)
	}
	long := r.do(t, get(accounts+"/default/token?scopes=%"+strings.Repeat("x", 8<<10))).expect(t, 400)
	if len(long.body) > 2<<10 {
		t.Errorf("a response of %d bytes", len(long.body))
	}
}

// The value of another parameter can be a token.
func TestQuery_UnknownParameterThatCannotBeDecodedIsIgnored(t *testing.T) {
	w := linked()
	r := serve(t, w)
	r.do(t, get(accounts+"/default/token?secret="+accessSecret+";scopes=x&scopes="+url.QueryEscape(tokens.CloudPlatform)+"&y=%zz")).expect(t, 200)
	if got := w.scopes[0]; len(got) != 1 || got[0] != tokens.CloudPlatform {
		t.Errorf("scopes %q", got)
	}
}

// A token with the default scopes would be more than the client has asked for.
func TestScopes_ThatCannotBeReadAreRefused(t *testing.T) {
	r := serve(t, linked())
	const path = accounts + "/default/token?"
	const scope = "scopes=https://www.googleapis.com/auth/devstorage.read_only"
	for query, want := range map[string]string{
		scope + strings.Repeat("&", 12_000): "too many parts",
		"%73copes=a%zz":                     "cannot be decoded",
		"scopes=x%0agcloud%09projects":      "a scope consists of",
		"scopes=x%1b[8m":                    "a scope consists of",
		"scopes=x%22":                       "a scope consists of",
		"scopes=x%c2%a0y":                   "a scope consists of",
	} {
		if reply := r.do(t, get(path+query)).expect(t, 400); !strings.Contains(reply.body, want) {
			t.Errorf("%.60s: %q, want %q", query, reply.body, want)
		}
	}
	r.do(t, get(path+scope+"&unknown=a%zz")).expect(t, 200)
}
