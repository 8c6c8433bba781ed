package server

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// exchange is one request, with the state of the world.
type exchange struct {
	title   string
	request string
	world   func(*world) // changes the world, which has a linked KSA; can be nil
}

func unlinked(w *world)    { w.workload.GSA = "" }
func asPrincipal(w *world) { w.workload.GSA, w.workload.PrincipalEmail = "", true }

// transcripts are the exchanges of each file in testdata.
func transcripts() map[string][]exchange {
	files := map[string][]exchange{
		"root": {
			{title: "a probe without the flavor header", request: bare("GET /")},
			{title: "a probe with the flavor header", request: get("/")},
		},
		"redirects": {
			{title: "Node's probe", request: get(root + "/instance")},
			{title: "a redirect with a query", request: get(accounts + "/default?recursive=true&alt=json")},
			{title: "a redirect to the requested host", request: "GET " + root + " HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata-Flavor: Google\r\n\r\n"},
			{title: "an account by its e-mail address", request: get(accounts + "/cart%40demo-project.iam.gserviceaccount.com")},
			{title: "no redirect without the flavor header", request: bare("GET " + root + "/instance")},
		},
		"refusals": {
			{title: "a key that GKE does not serve", request: get(root + "/instance/machine-type")},
			{title: "the misspelt path of old libraries", request: get(root + "/universe/universe_domain")},
			{title: "no flavor header", request: bare("GET " + root + "/project/project-id")},
			{title: "another flavor", request: bare("GET "+root+"/project/project-id", "Metadata-Flavor: google")},
			{title: "the old header of Compute Engine", request: bare("GET "+root+"/project/project-id", "X-Google-Metadata-Request: True")},
			{title: "through a proxy", request: get(root+"/project/project-id", "X-Forwarded-For: 10.0.0.1")},
			{title: "through a proxy, at the root", request: get("/", "X-Forwarded-For:")},
			{title: "POST", request: bare("POST "+root+"/project/project-id", "Metadata-Flavor: Google", "Content-Length: 0")},
			{title: "PUT", request: bare("PUT "+accounts+"/default/token", "Metadata-Flavor: Google", "Content-Length: 0")},
			{title: "DELETE", request: bare("DELETE "+root+"/", "Metadata-Flavor: Google")},
			{title: "another workload's account", request: get(accounts + "/billing@demo-project.iam.gserviceaccount.com/token")},
			{title: "a directory of another workload's account", request: get(accounts + "/billing@demo-project.iam.gserviceaccount.com/?recursive=true")},
			{title: "an ID token without an audience", request: get(accounts + "/default/identity")},
			{title: "an ID token for an empty audience", request: get(accounts + "/default/identity?audience=")},
		},
		"head": {
			{title: "a key", request: bare("HEAD "+root+"/project/project-id", "Metadata-Flavor: Google")},
			{title: "the root", request: bare("HEAD /")},
			{title: "no flavor header", request: bare("HEAD " + root + "/project/project-id")},
			{title: "an unknown key", request: bare("HEAD "+root+"/instance/machine-type", "Metadata-Flavor: Google")},
		},
		"accounts": {
			{title: "unlinked: the pool in place of the e-mail address", request: get(accounts + "/default/email"), world: unlinked},
			{title: "unlinked: listed", request: get(accounts + "/"), world: unlinked},
			{title: "unlinked: by the pool's name", request: get(accounts + "/" + testPool + "/token"), world: unlinked},
			{title: "unlinked: no ID token", request: get(accounts + "/default/identity?audience=x"), world: unlinked},
			{title: "unlinked: no token under the GSA's address", request: get(accounts + "/" + testGSA + "/token"), world: unlinked},
			{title: "principal: its e-mail address", request: get(accounts + "/default/email"), world: asPrincipal},
			{title: "principal: listed", request: get(accounts + "/"), world: asPrincipal},
			{title: "principal: its directory, as Python requests it with the double slash collapsed", request: get(accounts + "/" + strings.Replace(testPrincipal, "//", "/", 1) + "/?recursive=true"), world: asPrincipal},
			{title: "principal: its token, with both slashes", request: get(accounts + "/" + testPrincipal + "/token"), world: asPrincipal},
			{title: "principal: no token of another principal", request: get(accounts + "/" + strings.Replace(testPrincipal, "/sa/cart", "/sa/till", 1) + "/token"), world: asPrincipal},
		},
	}
	for name, account := range map[string]string{"keys-default": defaultAccount, "keys-email": testGSA} {
		for _, key := range keys(account) {
			files[name] = append(files[name], exchange{title: strings.TrimPrefix(key, root+"/"), request: get(withQuery(key))})
		}
	}
	for _, directory := range directories() {
		files["directories"] = append(files["directories"], exchange{title: directory, request: get(directory)})
	}
	for _, account := range []string{"", "/default", "/" + testGSA} {
		files["directories"] = append(files["directories"], exchange{title: accounts + account + " recursively", request: get(accounts + account + "/?recursive=true")})
	}
	for _, reason := range []identity.Reason{identity.NotReady, identity.Unknown, identity.Ambiguous, identity.HostNetwork, identity.NotListed, identity.NotAPod, identity.Unattested, identity.Mismatch, "another"} {
		files["identity-errors"] = append(files["identity-errors"], exchange{
			title: string(reason), request: get(accounts + "/default/token"), world: func(w *world) { w.onPod = failWith(identityError(reason)) }})
	}
	for _, reason := range []identity.Reason{identity.Gone, identity.BadAnnotation, identity.NotReady} {
		files["identity-errors"] = append(files["identity-errors"], exchange{
			title: string(reason) + ", of the KSA", request: get(accounts + "/default/email"), world: func(w *world) { w.onWorkload = failWith(identityError(reason)) }})
	}
	for _, kind := range []tokens.Kind{tokens.NotLinked, tokens.Denied, tokens.NotFound, tokens.Invalid, tokens.Misconfigured, tokens.Unavailable, "another"} {
		files["token-errors"] = append(files["token-errors"], exchange{
			title: string(kind), request: get(accounts + "/default/token"), world: func(w *world) { w.onToken = failWith(tokenError(kind, 0)) }})
	}
	for _, wait := range []time.Duration{time.Millisecond, 1500 * time.Millisecond, time.Minute} {
		files["token-errors"] = append(files["token-errors"], exchange{
			title: "unavailable for " + wait.String(), request: get(withQuery(accounts + "/default/identity")), world: func(w *world) { w.onToken = failWith(tokenError(tokens.Unavailable, wait)) }})
	}
	return files
}

func directories() []string {
	list := []string{"/computeMetadata/", root + "/"}
	var walk func(path string, n *node)
	walk = func(path string, n *node) {
		for _, child := range n.sorted() {
			if child.key != nil || child.children[attributeSegment] != nil && len(child.children) == 1 {
				continue
			}
			names := []string{child.segment}
			if child.segment == accountSegment {
				names = []string{defaultAccount, testGSA}
			}
			for _, name := range names {
				list = append(list, path+name+"/")
				walk(path+name+"/", child)
			}
		}
	}
	walk(root+"/", newTree(New(Options{}).endpoints()))
	return list
}

func TestTranscripts_MatchTheWire(t *testing.T) {
	for name, exchanges := range transcripts() {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for _, e := range exchanges {
				w := linked()
				if e.world != nil {
					e.world(w)
				}
				record(&b, e, serve(t, w).do(t, e.request))
			}
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("%s (-want +got; -update writes it):\n%s", file, diff)
			}
		})
	}
}

var date = regexp.MustCompile(`(?m)^Date: .*\r\n`)

// record writes an exchange: > marks a line of the request, < a line of the response's
// head, | a line of its body. As in a diff, a line follows a body that does not end in a
// newline.
func record(b *strings.Builder, e exchange, r reply) {
	head, body, _ := strings.Cut(date.ReplaceAllString(r.raw, ""), "\r\n\r\n")
	b.WriteString("# " + e.title + "\n")
	prefixed(b, "> ", strings.TrimSuffix(e.request, "\r\n\r\n"), "\r\n")
	prefixed(b, "< ", head, "\r\n")
	if text, whole := strings.CutSuffix(body, "\n"); body != "" {
		prefixed(b, "| ", text, "\n")
		if !whole {
			b.WriteString("\\ no newline at the end\n")
		}
	}
	b.WriteByte('\n')
}

func prefixed(b *strings.Builder, prefix, text, separator string) {
	for line := range strings.SplitSeq(text, separator) {
		b.WriteString(strings.TrimRight(prefix+line, " ") + "\n")
	}
}

func TestTranscripts_AreAllUsed(t *testing.T) {
	known := transcripts()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, ok := known[strings.TrimSuffix(filepath.Base(file), ".txt")]; !ok {
			t.Errorf("no test uses %s", file)
		}
	}
}
