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

// accessToken is an answer that holds one.
func accessToken() []expectation {
	return []expectation{ok(jsonDoc), keys("access_token", "expires_in", "token_type"), func(_ *session, r reply) string {
		token, _ := r.at("access_token").(string)
		return unless(len(token) > 0 && !strings.ContainsAny(token, " \r\n\t"), "access_token: a text without white space")
	}}
}

// tokenCases are about access tokens.
func tokenCases() []Case {
	request := get(sa + "default/token")
	return []Case{
		{"tokens/default/token is an access token", Documented, queryDoc, asks(request, accessToken()...)},
		{"tokens/content type is " + jsonDoc, Client, "google-auth for Python 2.48 and gcloud 528.0.0, run: they crash on any other", asks(request, ok(jsonDoc))},
		{"tokens/all three fields", Client, "google-cloud-cpp requires them", asks(request, status(200), keys("access_token", "expires_in", "token_type"))},
		{"tokens/token_type is Bearer", Client, "docker-credential-gcr 2.2.1 wants exactly this", asks(request, status(200), matching(`.*"token_type": ?"Bearer".*\n?`))},
		{"tokens/expires_in is a whole number and not zero", Client, "cloud.google.com/go/auth 0.24, run: 0 is an incomplete token, a fraction an error", asks(request, status(200), seconds(1))},
		{"tokens/expires_in is 300 or more", Client, "google-auth-library for Node 10.9, run: below it asks anew for each call", asks(request, status(200), seconds(300))},
		{"tokens/one line", Documented, queryDoc, asks(request, status(200), matching(`\{[^\n]*\}\n?`))},
		{"tokens/within half a second once it is there", Client, "google-cloud-env for Ruby 2.4, run: 0.5 s, three times", within(500*time.Millisecond, 3, request)},
		{"tokens/other scopes are another token", Client, "Google.Apis.Auth for .NET: GKE honours the scopes; Compute Engine does not", otherScopes},
		{"tokens/the order of the scopes is none", Inferred, "scopes are a set", asks(get(sa+"default/token?scopes="+readOnly+","+cloudPlatform), accessToken()...)},
	}
}

// seconds is expires_in, as a JSON integer of at least this.
func seconds(least int) expectation {
	return func(_ *session, r reply) string {
		number, _ := r.at("expires_in").(json.Number)
		n, err := strconv.Atoi(string(number))
		return unless(err == nil && n >= least, "expires_in: a whole number, %d or more", least)
	}
}

// within asks as often as an impatient client.
func within(patience time.Duration, times int, request string) check {
	return func(s *session) error {
		var r reply
		for range times {
			if r = s.impatient(patience, request); r.status == http.StatusOK {
				return nil
			}
		}
		return s.expect(r, status(http.StatusOK))
	}
}

func (s *session) impatient(patience time.Duration, request string) reply {
	patiently := s.ctx
	ctx, cancel := context.WithTimeout(patiently, patience)
	defer cancel()
	s.ctx = ctx
	defer func() { s.ctx = patiently }()
	return s.ask(request)
}

func otherScopes(s *session) error {
	one, other := s.ask(get(sa+"default/token")), s.ask(get(sa+"default/token?scopes="+readOnly))
	if err := s.expect(one, accessToken()...); err != nil {
		return err
	}
	differs := func(_ *session, r reply) string {
		return unless(r.at("access_token") != one.at("access_token"), "another token than the one without scopes")
	}
	return s.expect(other, append([]expectation{differs}, accessToken()...)...)
}

// identityCases are about ID tokens.
func identityCases() []Case {
	const path = sa + "default/identity?audience={audience}"
	const none = "non-empty audience parameter required"
	const ruby = "googleauth for Ruby 1.17, run: any other, and any charset, is an error"
	cases := []Case{
		{"identity/content type has no charset and is not JSON", Client, ruby, only(linked, asks(get(path), status(200), header("Content-Type", text, "text/html")))},
		{"identity/by e-mail address", Inferred, "one account, two names", only(linked, asks(get(sa+"{email}/identity?audience={audience}"), idToken()...))},
		{"identity/of the audience asked for", Documented, vmIdentityDoc, only(linked, asks(get(path), status(200), audience))},
		{"identity/of an audience that is not escaped", Client, "the libraries for Node 10.9 and PHP 1.52, run: raw", only(linked, asks(get(sa+"default/identity?audience=https://raw.example/path"), idToken()...))},
		{"identity/lives for 55 minutes or more", Client, "cloud.google.com/go/auth 0.24: idtoken/compute.go takes it for an hour", only(linked, asks(get(path), status(200), fresh))},
		{"identity/no audience is 400", Inferred, "two other emulators agree on the text", only(linked, asks(get(sa+"default/identity"), status(400), matching(none+`\n?`)))},
		{"identity/an empty audience is 400", Inferred, "two other emulators agree on the text", only(linked, asks(get(sa+"default/identity?audience="), status(400), matching(none+`\n?`)))},
		{"identity/unlinked is 404", Client, "gcloud 528.0.0, run: any other status ends every command; google-cloud-go#2750 (GKE)", unlessLinked(asks(get(path), status(404)))},
		{"identity/unlinked says what to do", Inferred, "the text that another emulator has from GKE", unlessLinked(asks(get(path), status(404),
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
		cases = append(cases, Case{"identity/is a JWT: audience={audience}" + p.query, p.truth, p.source, only(linked, asks(get(path+p.query), idToken()...))})
	}
	return append(cases, Case{"identity/has the e-mail address with format=full", Documented, vmIdentityDoc + "; Identity-Aware Proxy refuses one without",
		only(linked, asks(get(path+"&format=full"), status(200), func(s *session, r reply) string {
			return unless(claims(r)["email"] == any(s.account), "a JWT with the email %s", s.account)
		}))})
}

// idToken is an answer that is one.
func idToken() []expectation {
	return []expectation{status(200), func(_ *session, r reply) string {
		return unless(claims(r) != nil, "three parts of base64url with dots between them, the second one JSON, and nothing else")
	}}
}

func audience(s *session, r reply) string {
	return unless(claims(r)["aud"] == any(s.options.Audience), "a JWT with the aud %s", s.options.Audience)
}

func fresh(s *session, r reply) string {
	expiry, _ := claims(r)["exp"].(float64)
	return unless(time.Until(time.Unix(int64(expiry), 0)) >= 55*time.Minute, "a JWT whose exp is 55 minutes ahead or more")
}

// claims are those of the JWT that is the body; nobody checks its signature here.
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

// unlessLinked is a check for callers that are linked to no GSA.
func unlessLinked(c check) check {
	return func(s *session) error {
		is, err := s.caller()
		if err != nil {
			return err
		}
		if is == linked {
			return notApplicable("the caller is " + string(is))
		}
		return c(s)
	}
}
