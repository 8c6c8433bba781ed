package conformance

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// redacted replaces a token.
const redacted = "[token]"

// secrets are the tokens that a server has sent. No output must contain them.
type secrets struct {
	known      []string
	forms      []*regexp.Regexp // of tokens, wherever they occur
	tokenChars *regexp.Regexp   // a run of characters that can occur in tokens
}

func newSecrets() *secrets {
	return &secrets{
		forms: []*regexp.Regexp{
			regexp.MustCompile(`eyJ[\w-]{5,}(\.[\w-]*){1,2}`), // JWT
			regexp.MustCompile(`ya29\.[\w.-]+`),               // access token of Google's
			regexp.MustCompile(`(?i)(?P<key>(?:access|id|refresh)_?token["']?\s*[:=]\s*)["']?[^"',&}\s]+["']?`),
		},
		tokenChars: regexp.MustCompile(`[\w.~+=-]{24,}`),
	}
}

// learn adds the token of an answer to a request for a token.
func (k *secrets) learn(r reply) {
	path, err := url.PathUnescape(target(r.request))
	if err != nil {
		path = target(r.request)
	}
	if r.status != http.StatusOK || !strings.Contains(path, "token") && !strings.Contains(path, "identity") {
		return
	}
	if token, ok := r.field("access_token").(string); ok && len(token) >= 8 {
		k.known = append(k.known, token)
		return
	}
	k.known = append(k.known, k.tokenChars.FindAllString(r.body+r.trailing, -1)...)
}

// hide replaces known tokens, and texts that have the form of a token.
func (k *secrets) hide(s string) string {
	for _, token := range k.known {
		s = strings.ReplaceAll(s, token, redacted)
	}
	for _, form := range k.forms {
		s = form.ReplaceAllString(s, "${key}"+redacted)
	}
	return s
}

// redact also replaces texts that can be tokens: no other value of a metadata server
// is a run of so many lower-case letters, capitals and digits.
func (k *secrets) redact(s string) string {
	return k.tokenChars.ReplaceAllStringFunc(k.hide(s), func(run string) string {
		if strings.ContainsAny(run, "0123456789") && strings.ToLower(run) != run && strings.ToUpper(run) != run {
			return redacted
		}
		return run
	})
}
