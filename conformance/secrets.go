package conformance

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// redacted is what stands where a token was.
const redacted = "[token]"

// secrets are the tokens that a server has given, which nothing may print.
type secrets struct {
	seen  []string
	forms []*regexp.Regexp // of tokens, also those not seen where they belong
	run   *regexp.Regexp   // of characters that tokens are made of
}

func newSecrets() *secrets {
	return &secrets{
		forms: []*regexp.Regexp{
			regexp.MustCompile(`eyJ[\w-]{5,}(\.[\w-]*){1,2}`), // JWT
			regexp.MustCompile(`ya29\.[\w.-]+`),               // access token of Google's
			regexp.MustCompile(`(?i)(?P<key>(?:access|id|refresh)_?token["']?\s*[:=]\s*)["']?[^"',&}\s]+["']?`),
		},
		run: regexp.MustCompile(`[\w.~+=-]{24,}`),
	}
}

// learn keeps what an answer gives where tokens are given.
func (x *secrets) learn(r reply) {
	path, err := url.PathUnescape(target(r.request))
	if err != nil {
		path = target(r.request)
	}
	if r.status != http.StatusOK || !strings.Contains(path, "token") && !strings.Contains(path, "identity") {
		return
	}
	if token, is := r.at("access_token").(string); is && len(token) >= 8 {
		x.seen = append(x.seen, token)
		return
	}
	x.seen = append(x.seen, x.run.FindAllString(r.body+r.rest, -1)...)
}

// hide replaces tokens that are known, or known by their form.
func (x *secrets) hide(s string) string {
	for _, token := range x.seen {
		s = strings.ReplaceAll(s, token, redacted)
	}
	for _, form := range x.forms {
		s = form.ReplaceAllString(s, "${key}"+redacted)
	}
	return s
}

// redact replaces also what may be a token: nothing else that a metadata server says
// has so many characters in small letters, capitals and digits.
func (x *secrets) redact(s string) string {
	return x.run.ReplaceAllStringFunc(x.hide(s), func(run string) string {
		if strings.ContainsAny(run, "0123456789") && strings.ToLower(run) != run && strings.ToUpper(run) != run {
			return redacted
		}
		return run
	})
}
