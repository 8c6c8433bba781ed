package conformance

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// accessToken is an answer with an access token.
func accessToken() []expectation {
	return []expectation{ok(jsonDoc), keys("access_token", "expires_in", "token_type"), func(_ *session, r reply) string {
		token, _ := r.field("access_token").(string)
		return unless(len(token) > 0 && !strings.ContainsAny(token, " \r\n\t"), "access_token: a string without white space")
	}}
}

// tokenCases are about access tokens.
func tokenCases() []row {
	request := get(sa + "default/token")
	return []row{
		{"tokens/default/token is an access token", Documented, queryDoc, expect(request, accessToken()...)},
		{"tokens/content type is " + jsonDoc, Client, "google-auth for Python 2.48 and gcloud 528.0.0, run: they crash on any other", expect(request, ok(jsonDoc))},
		{"tokens/all three fields", Client, "google-cloud-cpp requires them", expect(request, status(200), keys("access_token", "expires_in", "token_type"))},
		{"tokens/token_type is Bearer", Client, "docker-credential-gcr 2.2.1 requires exactly this", expect(request, status(200), matching(`.*"token_type": ?"Bearer".*\n?`))},
		{"tokens/expires_in is a whole number and not zero", Client, "cloud.google.com/go/auth 0.24, run: 0 is an incomplete token, a fraction an error", expect(request, status(200), expiresIn(1))},
		{"tokens/expires_in is 300 or more", Client, "google-auth-library for Node 10.9, run: below it requests a token for each call", expect(request, status(200), expiresIn(300))},
		{"tokens/one line", Documented, queryDoc, expect(request, status(200), matching(`\{[^\n]*\}\n?`))},
		{"tokens/within half a second once it is cached", Client, "google-cloud-env for Ruby 2.4, run: 0.5 s, three times", sendWithin(500*time.Millisecond, 3, request)},
		{"tokens/other scopes are another token", Client, "Google.Apis.Auth for .NET: GKE honours the scopes; Compute Engine does not", otherScopes},
		{"tokens/scopes that cannot be decoded are 400", Inferred, "the default scopes could be more than the client asks for", expect(get(sa+"default/token?scopes="+readOnly+";"+cloudPlatform), status(400))},
		{"tokens/the order of the scopes does not matter", Inferred, "scopes are a set", expect(get(sa+"default/token?scopes="+readOnly+","+cloudPlatform), accessToken()...)},
	}
}

// expiresIn is an expires_in that is a JSON integer of at least this many seconds.
func expiresIn(least int) expectation {
	return func(_ *session, r reply) string {
		number, _ := r.field("expires_in").(json.Number)
		n, err := strconv.Atoi(string(number))
		return unless(err == nil && n >= least, "expires_in: a whole number, %d or more", least)
	}
}

// sendWithin sends a request up to some times, each with a time-out, as a client does
// that retries.
func sendWithin(timeout time.Duration, attempts int, request string) check {
	return func(s *session) error {
		var r reply
		for range attempts {
			if r = s.sendWithTimeout(timeout, request); r.status == http.StatusOK {
				return nil
			}
		}
		return s.expect(r, status(http.StatusOK))
	}
}

func (s *session) sendWithTimeout(timeout time.Duration, request string) reply {
	caseCtx := s.ctx
	ctx, cancel := context.WithTimeout(caseCtx, timeout)
	defer cancel()
	s.ctx = ctx
	defer func() { s.ctx = caseCtx }()
	return s.send(request)
}

func otherScopes(s *session) error {
	one, other := s.send(get(sa+"default/token")), s.send(get(sa+"default/token?scopes="+readOnly))
	if err := s.expect(one, accessToken()...); err != nil {
		return err
	}
	differs := func(_ *session, r reply) string {
		return unless(r.field("access_token") != one.field("access_token"), "a token that differs from the one without scopes")
	}
	return s.expect(other, append([]expectation{differs}, accessToken()...)...)
}

// identityCases are about ID tokens.
func identityCases() []row {
	const path = sa + "default/identity?audience={audience}"
	const none = "non-empty audience parameter required"
	const ruby = "googleauth for Ruby up to 0.16.0 (Debian 12): any other, and any charset, is an error; later versions also take application/text; text/html is Compute Engine's"
	cases := []row{
		{"identity/content type is text/html", Client, ruby, ifLinked(expect(get(path), ok("text/html")))},
		{"identity/by e-mail address", Inferred, "one account, two names", ifLinked(expect(get(sa+"{email}/identity?audience={audience}"), idToken()...))},
		{"identity/has the requested audience", Documented, vmIdentityDoc, ifLinked(expect(get(path), status(200), audience))},
		{"identity/accepts an audience that is not escaped", Client, "the libraries for Node 10.9 and PHP 1.52, run: raw", ifLinked(expect(get(sa+"default/identity?audience=https://raw.example/path"), idToken()...))},
		{"identity/is valid for 55 minutes or more", Client, "cloud.google.com/go/auth 0.24: idtoken/compute.go assumes an hour", ifLinked(expect(get(path), status(200), validFor55Minutes))},
		{"identity/no audience is 400", Inferred, "two other emulators agree on the text", ifLinked(expect(get(sa+"default/identity"), status(400), matching(none+`\n?`)))},
		{"identity/an empty audience is 400", Inferred, "two other emulators agree on the text", ifLinked(expect(get(sa+"default/identity?audience="), status(400), matching(none+`\n?`)))},
		{"identity/an audience that cannot be decoded is 400", Inferred, "a token would be for another audience", ifLinked(expect(get(sa+"default/identity?audience=https://raw.example/100%"), status(400)))},
		{"identity/unlinked is 404", Client, "gcloud 528.0.0, run: any other status ends every command; google-cloud-go#2750 (GKE)", ifNotLinked(expect(get(path), status(404)))},
		{"identity/unlinked: the text gives the remedy", Inferred, "the text that another emulator has from GKE", ifNotLinked(expect(get(path), status(404),
			matching(`(?s)Your Kubernetes service account \([^/)]+/[^)]+\) is not annotated with a target Google service account.*`)))},
	}
	for _, p := range []struct {
		query  string
		truth  Truth
		source string
	}{
		{"", Documented, vmIdentityDoc},
		{"&format=standard", Documented, vmIdentityDoc},
		{"&format=full", Documented, vmIdentityDoc},
		{"&format=standard&licenses=FALSE", Client, "gcloud 528.0.0, run"},
		{"&format=full&licenses=TRUE", Client, "cloud.google.com/go/auth 0.24"},
		{"&format=full&licenses=true", Client, "Google.Apis.Auth for .NET"},
		{"&transport=rest", Inferred, "unknown parameters are ignored"},
	} {
		cases = append(cases, row{"identity/is a JWT: audience={audience}" + p.query, p.truth, p.source, ifLinked(expect(get(path+p.query), idToken()...))})
	}
	return append(cases, row{"identity/has the e-mail address with format=full", Documented, vmIdentityDoc + "; Identity-Aware Proxy refuses one without",
		ifLinked(expect(get(path+"&format=full"), status(200), func(s *session, r reply) string {
			return unless(claims(r)["email"] == any(s.account), "a JWT with the email %s", s.account)
		}))})
}

// idToken is an answer that is an ID token.
func idToken() []expectation {
	return []expectation{status(200), func(_ *session, r reply) string {
		return unless(claims(r) != nil, "three parts of base64url with dots between them, the second one JSON, and nothing else")
	}}
}

func audience(s *session, r reply) string {
	return unless(claims(r)["aud"] == any(s.options.Audience), "a JWT with the aud %s", s.options.Audience)
}

func validFor55Minutes(s *session, r reply) string {
	expiry, _ := claims(r)["exp"].(float64)
	return unless(time.Until(time.Unix(int64(expiry), 0)) >= 55*time.Minute, "a JWT whose exp is 55 minutes ahead or more")
}

// claims returns the claims of the JWT in the body. It does not check the signature.
func claims(r reply) map[string]any {
	parts := regexp.MustCompile(`\A[\w-]+\.([\w-]+)\.[\w-]+\z`).FindStringSubmatch(r.body)
	if parts == nil {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var all map[string]any
	if err != nil || json.Unmarshal(payload, &all) != nil {
		return nil
	}
	return all
}
