package conformance

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

func breakParameters() []breakage {
	forbids := func(parameters ...string) func(*ask, *answer) {
		return func(q *ask, a *answer) {
			if slices.ContainsFunc(parameters, func(p string) bool { return strings.Contains(q.query(), p) }) {
				a.set(403, "text/plain", "Unrecognized query parameter key\n")
			}
		}
	}
	return []breakage{
		{name: "unknown parameters are refused", after: forbids("transport", "bindCert", "enforce", "a;b", "x"), breaks: []string{`parameters/.*is ignored`, `parameters/token\?(transport|bind).*`, `identity/.*transport.*`}},
		{name: "scopes are refused", after: forbids("scopes="), breaks: []string{`parameters/token\?scopes.*`, `tokens/the order.*`, `tokens/other scopes.*`}},
		{name: "alt is refused", after: forbids("alt="), breaks: []string{`parameters/alt=.*`, `parameters/recursive=true.*`}},
		{name: "alt=json is ignored", before: func(q *ask) { q.target = strings.Replace(q.target, "alt=json", "", 1) }, breaks: []string{`parameters/alt=json.*`}},
		{name: "alt=text adds a newline", after: func(q *ask, a *answer) {
			if strings.Contains(q.query(), "alt=text") {
				a.body += "\n"
			}
		}, breaks: []string{`parameters/alt=text.*`, `parameters/recursive=true of.*`}},
		{name: "only recursive=true is true", before: func(q *ask) {
			if !strings.Contains(q.target, "recursive=true") {
				q.target = strings.Replace(q.target, "recursive=", "x=", 1)
			}
		}, breaks: []string{`parameters/recursive=.* is (true|JSON)`}},
		{name: "recursive is true with any value", before: func(q *ask) {
			q.target = regexp.MustCompile(`recursive=\w+`).ReplaceAllString(q.target, "recursive=true")
		}, breaks: []string{`parameters/recursive=.* is (false|a listing)`}},
		{name: "recursive=false is taken for true", before: func(q *ask) { q.target = strings.Replace(q.target, "recursive=false", "recursive=true", 1) }, breaks: []string{`parameters/recursive=false.*`}},
	}
}

func breakRefusals() []breakage {
	always := func(q *ask) { q.header.Set("Metadata-Flavor", "Google") }
	as200 := func(q *ask, a *answer) {
		if a.status == 404 {
			a.set(200, text, "x")
		}
	}
	status := func(from, to int) func(*ask, *answer) {
		return func(_ *ask, a *answer) {
			if a.status == from {
				a.status = to
			}
		}
	}
	return []breakage{
		{name: "the flavor header is not required", before: always, breaks: []string{`refusals/no flavor.*`, `refusals/[\w-]+: .*`, `refusals/Metadata-Flavor:`, `headers/.*missing flavor`, `robustness/the whole URL.*needs.*`}},
		{name: "a missing flavor is 401", after: status(403, 401), breaks: []string{`refusals/no flavor.*`, `refusals/(X-)?[\w-]+: .*`, `refusals/X-Forwarded.*`, `headers/.*403.*`}},
		{name: "403 is a page", after: func(_ *ask, a *answer) {
			if a.status == 403 {
				a.set(403, "text/html; charset=UTF-8", "<html>")
			}
		}, breaks: []string{`refusals/no flavor header (names|is).*`}},
		{name: "X-Forwarded-For is ignored", before: func(q *ask) { q.header.Del("X-Forwarded-For") }, breaks: []string{`refusals/X-Forwarded.*`, `headers/.*X-Forwarded.*`}},
		{name: "404 is a page", after: func(_ *ask, a *answer) {
			if a.status == 404 {
				a.body = "<html>"
			}
		}, breaks: []string{`refusals/404.*`, `identity/unlinked: the text.*`}, caller: unlinked},
		{name: "every method is GET", before: func(q *ask) {
			if q.method != "HEAD" {
				q.method = "GET"
			}
		}, breaks: []string{`refusals/(POST|PUT|DELETE|PATCH).*`, `robustness/an unknown method.*`}},
		{name: "HEAD is not served", after: func(q *ask, a *answer) {
			if q.method == "HEAD" {
				a.status = 405
			}
		}, breaks: []string{`.*HEAD.*`}},
		{name: "absent keys have a value", after: as200, breaks: []string{`absent/.*`, `refusals/404.*`, `refusals/HEAD of an absent.*`, `headers/.* on 404`, `accounts/linked: the workload.*`, `waiting/an absent key.*`}},
		{name: "absent keys are 500", after: status(404, 500), breaks: []string{`absent/.*`, `identity/unlinked is.*`}, caller: unlinked},
	}
}

func breakAccounts() []breakage {
	onPath := func(part string, f func(*answer)) func(*ask, *answer) {
		return func(q *ask, a *answer) {
			if strings.Contains(q.path(), part) {
				f(a)
			}
		}
	}
	value := func(s string) func(*answer) { return func(a *answer) { a.set(200, text, s) } }
	notFound := func(a *answer) { a.set(404, "text/plain", "Not Found\n") }
	return []breakage{
		{name: "the account has one name", after: onPath(testGSA, notFound), breaks: []string{`accounts/\{email\}.*`, `listings/.*\{email\}.*`, `values/.*\{email\}.*`, `recursive/.*\{email\}/.*`, `identity/by e-mail.*`, `directories/.*\{email\}.*`}},
		{name: "the other name is another account", after: onPath(testGSA, value("x")), breaks: []string{`accounts/\{email\}.*`}},
		{name: "only default is listed", after: onListing(func(_ *ask, a *answer) { a.body = "default/\n" }), breaks: []string{`accounts/the e-mail.*listed`, `listings/.*(both names|no other account)`}},
		{name: "paths are not decoded", after: onPath("%", notFound), breaks: []string{`accounts/.*percent.*`, `robustness/unreserved characters.*`}},
		{name: "linked: the e-mail address has a space", after: onPath("/email", value("cart @demo.com")), breaks: []string{`accounts/linked: the e-mail.*`}},
		{name: "linked: the pool is also a name", after: onPath("svc.id.goog", value("x")), breaks: []string{`accounts/linked: the workload.*`}},
		{name: "unlinked: the address is a path", caller: unlinked, after: onPath("default/email", value("demo-project/pool")), breaks: []string{`accounts/unlinked: the workload pool is shown.*`}},
		{name: "unlinked: only default is listed", caller: unlinked, after: onListing(func(_ *ask, a *answer) { a.body = "default/\n" }), breaks: []string{`accounts/unlinked: the workload pool is listed`}},
		{name: "principal: it has another form", caller: principal, after: onPath("default/email", value("principal://iam.googleapis.com/x")), breaks: []string{`accounts/principal: the identifier.*`}},
		{name: "principal: slashes end a name", caller: principal, after: onPath("principal:", notFound), breaks: []string{`accounts/principal: its.*`}},
		{name: "principal: a prefix of a name is enough", caller: principal, after: onPath("-other", value("x")), breaks: []string{`accounts/principal: another name.*`}},
	}
}

func breakTokens() []breakage {
	token := func(pattern, replacement string) func(*ask, *answer) {
		re := regexp.MustCompile(pattern)
		return func(q *ask, a *answer) {
			if strings.HasSuffix(q.path(), "/token") && a.status == 200 {
				a.body = re.ReplaceAllString(a.body, replacement)
			}
		}
	}
	id := func(f func(*ask, *answer)) func(*ask, *answer) {
		return func(q *ask, a *answer) {
			if strings.HasSuffix(q.path(), "/identity") {
				f(q, a)
			}
		}
	}
	claim := func(claims string) func(*ask, *answer) {
		return id(func(_ *ask, a *answer) { a.body = jwt(claims) })
	}
	return []breakage{
		{name: "the token has white space", after: token(`"access_token":"`, `"access_token":" `), breaks: []string{`tokens/default/token.*`, `parameters/token.*`, `accounts/\{email\}/token.*`}},
		{name: "expires_in is missing", after: token(`"expires_in":\d+,`, ``), breaks: []string{`tokens/(default/token|all three|expires_in).*`, `accounts/\{email\}/token.*`}},
		{name: "the token has another field", after: token(`\{`, `{"scope":"x",`), breaks: []string{`tokens/(default/token|all three).*`}},
		{name: "token_type is bearer", after: token(`Bearer`, `bearer`), breaks: []string{`tokens/token_type.*`}},
		{name: "expires_in is a string", after: token(`"expires_in":(\d+)`, `"expires_in":"$1"`), breaks: []string{`tokens/expires_in.*`}},
		{name: "expires_in is zero", after: token(`"expires_in":\d+`, `"expires_in":0`), breaks: []string{`tokens/expires_in.*`}},
		{name: "expires_in is a fraction", after: token(`("expires_in":\d+)`, `${1}.5`), breaks: []string{`tokens/expires_in.*`}},
		{name: "the token has nearly expired", after: token(`"expires_in":\d+`, `"expires_in":299`), breaks: []string{`tokens/expires_in is 300.*`}},
		{name: "the token is late", after: func(q *ask, a *answer) { a.silent = strings.HasSuffix(q.path(), "/token") }, breaks: []string{`tokens/within.*`}},
		{name: "scopes are ignored", before: func(q *ask) { q.target = strings.ReplaceAll(q.target, "scopes=", "x=") }, breaks: []string{`tokens/other scopes.*`}},
		{name: "parameters that cannot be decoded are dropped", before: func(q *ask) {
			if strings.ContainsAny(q.query(), "%;") {
				q.target = q.path() + "?audience=x"
			}
		}, breaks: []string{`tokens/scopes that cannot.*`, `identity/an audience that cannot.*`}},
		{name: "principal: no tokens", caller: principal, after: token(`.*`, ``), breaks: []string{`accounts/principal: its token.*`}},
		{name: "ID tokens are JSON", after: id(func(_ *ask, a *answer) { a.set(200, jsonDoc, `{"token":"`+a.body+`"}`) }), breaks: []string{`identity/(is a JWT|by|content|accepts|has).*`}},
		{name: "the content type of ID tokens has a charset", after: id(setHeader("Content-Type", "text/html; charset=utf-8")), breaks: []string{`identity/content type.*`}},
		{name: "ID tokens are application/text", after: id(setHeader("Content-Type", text)), breaks: []string{`identity/content type.*`}},
		{name: "ID tokens have two parts", after: id(func(_ *ask, a *answer) { a.body = a.body[:strings.LastIndex(a.body, ".")] }), breaks: []string{`identity/(is a JWT|by|accepts|has|is valid).*`}},
		{name: "ID tokens have another audience", after: claim(`{"aud":"x","exp":4102444800}`), breaks: []string{`identity/has.*`}},
		{name: "ID tokens have expired", after: claim(`{"exp":1}`), breaks: []string{`identity/is valid.*`}},
		{name: "a missing audience is 500", after: id(func(_ *ask, a *answer) {
			if a.status == 400 {
				a.status = 500
			}
		}), breaks: []string{`identity/(no|an empty) audience.*`, `waiting/an ID token.*`}},
		{name: "a missing audience has a default", before: func(q *ask) {
			if strings.HasSuffix(q.target, "/identity") || strings.HasSuffix(q.target, "audience=") {
				q.target = q.path() + "?audience=x"
			}
		}, breaks: []string{`identity/(no|an empty) audience.*`}},
		{name: "unlinked: no ID token is 403", caller: unlinked, after: id(func(_ *ask, a *answer) { a.status = 403 }), breaks: []string{`identity/unlinked.*`}},
	}
}

func breakWaiting() []breakage {
	waits := func(q *ask) bool { return strings.Contains(q.query(), "wait_for_change=true") }
	return []breakage{
		{name: "there is no ETag", after: setHeader("ETag", ""), breaks: []string{`waiting/(a value|a directory) has.*`, `waiting/equal.*`}},
		{name: "ETags are quoted", after: func(_ *ask, a *answer) { a.header.Set("ETag", `"`+a.header.Get("ETag")+`"`) }, breaks: []string{`waiting/(a value|a directory) has.*`}},
		{name: "ETags are always new", after: func(_ *ask, a *answer) { a.header.Set("ETag", fmt.Sprintf("%016x", time.Now().UnixNano())) }, breaks: []string{`waiting/equal.*`}},
		{name: "no request waits", before: func(q *ask) { q.target = strings.Replace(q.target, "wait_for_change", "x", 1) }, breaks: []string{
			`waiting/the current ETag.*`, `waiting/a request without last_etag.*`, `waiting/.* is 400.*`, `headers/.* on 400`}},
		{name: "every request waits", after: func(_ *ask, a *answer) { a.silent = true }, timeout: 300 * time.Millisecond, breaks: []string{`waiting/.*at once`, `waiting/.*does not wait`, `waiting/.*guest agent.*`}},
		{name: "wait_for_change changes the value", after: func(q *ask, a *answer) {
			if waits(q) && a.status == 200 {
				a.body = "x"
			}
		}, breaks: []string{`waiting/(last_etag=0|an outdated ETag|the current ETag|a request without last_etag|a directory with).*`}},
	}
}

func breakRobustness() []breakage {
	token := `{"access_token":"` + opaque + `","expires_in":3599,"token_type":"Bearer"}`
	gives := func(when func(*ask) bool) func(*ask, *answer) {
		return func(q *ask, a *answer) {
			if when(q) {
				a.set(200, jsonDoc, token)
			}
		}
	}
	refuses := func(when func(*ask) bool) func(*ask, *answer) {
		return func(q *ask, a *answer) {
			if when(q) {
				a.set(400, "text/plain", "no")
			}
		}
	}
	return []breakage{
		{name: "connections are closed", after: func(_ *ask, a *answer) { a.hangUp = true }, breaks: []string{`robustness/a connection is kept.*`, `robustness/pipelined.*`, `robustness/the body of a GET.*`}},
		{name: "answers come in reverse order", conn: answerInReverse, breaks: []string{`robustness/pipelined.*`}},
		{name: "a body is the next request", noBodies: true, breaks: []string{`robustness/the body of a GET.*`}},
		{name: "HTTP/1.0 is refused", after: refuses(func(q *ask) bool { return q.version == "HTTP/1.0" }), breaks: []string{`robustness/HTTP/1.0.*`}},
		{name: "connections are never closed", after: func(_ *ask, a *answer) { a.keep = true }, timeout: 300 * time.Millisecond, breaks: []string{`robustness/HTTP/1.0 closes.*`, `robustness/Connection: close.*`}},
		{name: "whole URLs are refused", after: refuses(func(q *ask) bool { return strings.HasPrefix(q.target, "http") }), breaks: []string{`robustness/the whole URL as target`}},
		{name: "each Host is refused", after: refuses(func(q *ask) bool { return true }), breaks: []string{`robustness/Host.*`, `robustness/an unrelated Host`}},
		{name: "strange requests get a token", after: gives(func(q *ask) bool { return q.header.Get("Metadata-Flavor") == "" || len(q.target) > 32<<10 }), breaks: []string{
			`robustness/no flavor.*`, `robustness/many headers.*`, `robustness/an overlong path.*`, `robustness/the whole URL.*needs.*`}},
		{name: "unknown methods get a token", after: gives(func(q *ask) bool { return q.method == "BREW" }), breaks: []string{`robustness/an unknown method.*`}},
		{name: "a request that is not HTTP gets a token", conn: func(c net.Conn) {
			first := make([]byte, 1)
			_, _ = io.ReadFull(c, first)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+token)
		}, breaks: []string{`robustness/a request that is not HTTP.*`}},
	}
}

// answerInReverse answers several requests, the last one first.
func answerInReverse(c net.Conn) {
	_, _ = c.Read(make([]byte, 4096))
	for _, body := range []string{"4", "3", "2", "1"} {
		write(c, &ask{}, &answer{status: 200, header: http.Header{}, body: body})
	}
}
