package gcs

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"gke-metadata-emulator/integration/internal/standin"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	algorithm      = "GOOG4-RSA-SHA256"
	signedTime     = "20060102T150405Z"
	signatureParam = "X-Goog-Signature"

	maxSignedLife = 7 * 24 * time.Hour
	maxSkew       = 15 * time.Minute
	maxJWKS       = 1 << 20
)

// isSigned reports whether a request has a V4 signature in its URL.
func isSigned(r *http.Request) bool { return r.URL.Query().Has(signatureParam) }

// signature is the signature in a URL: "V4 signing process with your own program" and
// "Canonical requests".
type signature struct {
	signer  string // a service account's address
	scope   string
	at      time.Time
	expires time.Time
	headers []string // that are signed
	value   []byte
}

// parseSignature reads what must be right before there is anything to verify.
func parseSignature(r *http.Request) (*signature, *refusal) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badParameter("the query", "it cannot be parsed")
	}
	if query.Get("X-Goog-Algorithm") != algorithm {
		return nil, badParameter("X-Goog-Algorithm", "it must be "+algorithm)
	}
	sig := &signature{headers: strings.Split(query.Get("X-Goog-SignedHeaders"), ";")}
	if sig.at, err = time.Parse(signedTime, query.Get("X-Goog-Date")); err != nil {
		return nil, badParameter("X-Goog-Date", "it must be like "+signedTime)
	}
	seconds, err := strconv.Atoi(query.Get("X-Goog-Expires"))
	life := time.Duration(seconds) * time.Second
	if err != nil || seconds < 1 || life > maxSignedLife {
		return nil, badParameter("X-Goog-Expires", "it must be from 1 to 604800 seconds")
	}
	sig.expires = sig.at.Add(life)
	// EMAIL/DATE/LOCATION/storage/goog4_request
	sig.signer, sig.scope, _ = strings.Cut(query.Get("X-Goog-Credential"), "/")
	parts := strings.Split(sig.scope, "/")
	if !strings.Contains(sig.signer, "@") || len(parts) != 4 || parts[0] != sig.at.Format("20060102") || parts[2] != "storage" || parts[3] != "goog4_request" {
		return nil, badParameter("X-Goog-Credential", "it must be EMAIL/DATE/LOCATION/storage/goog4_request, with the day of X-Goog-Date")
	}
	if sig.value, err = hex.DecodeString(query.Get(signatureParam)); err != nil {
		return nil, badParameter(signatureParam, "it must be hexadecimal")
	}
	if !slices.IsSorted(sig.headers) || !slices.Contains(sig.headers, "host") {
		return nil, badParameter("X-Goog-SignedHeaders", "it must be sorted and have host")
	}
	for name := range r.Header {
		if name := strings.ToLower(name); strings.HasPrefix(name, "x-goog-") && !slices.Contains(sig.headers, name) {
			return nil, badHeader(name)
		}
	}
	return sig, nil
}

// canonicalRequest is the text that was hashed and signed. The request is the original one,
// before [canonical].
func (sig *signature) canonicalRequest(r *http.Request) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + escaped(r.URL.Path, "/") + "\n" + canonicalQuery(r.URL.RawQuery) + "\n")
	payload := "UNSIGNED-PAYLOAD"
	for _, name := range sig.headers {
		value := strings.Join(strings.Fields(strings.Join(r.Header.Values(name), ",")), " ")
		switch name {
		case "host":
			value = r.Host
		case "x-goog-content-sha256":
			payload = value
		}
		b.WriteString(name + ":" + value + "\n")
	}
	b.WriteString("\n" + strings.Join(sig.headers, ";") + "\n" + payload)
	return b.String()
}

// canonicalQuery is all parameters but the signature, in order.
func canonicalQuery(raw string) string {
	query, _ := url.ParseQuery(raw) // has been parsed before
	query.Del(signatureParam)
	var pairs []string
	for name, values := range query {
		for _, value := range values {
			pairs = append(pairs, escaped(name, "")+"="+escaped(value, ""))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escaped escapes all characters that RFC 3986 reserves, except those in kept.
func escaped(text, safe string) string {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; strings.IndexByte(unreserved+safe, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// verify returns the signer of a request's URL as its caller. The origin of a URL does not
// matter: anyone with the URL has the signer's permissions.
func (s *Server) verify(r *http.Request) (*standin.Caller, *refusal) {
	sig, refused := parseSignature(r)
	if refused != nil {
		return nil, refused
	}
	now := s.now()
	if now.After(sig.expires) {
		return nil, signatureExpired(sig.expires)
	}
	if sig.at.After(now.Add(maxSkew)) {
		return nil, signedTooEarly()
	}
	request := sig.canonicalRequest(r)
	toSign := algorithm + "\n" + sig.at.Format(signedTime) + "\n" + sig.scope + "\n" + fmt.Sprintf("%x", sha256.Sum256([]byte(request)))
	keys, err := s.keys(r.Context(), sig.signer)
	if err != nil {
		s.log.WarnContext(r.Context(), "fakegoogle did not answer what a service account's keys are", "account", sig.signer, "error", err)
		return nil, backendDown()
	}
	hash := sha256.Sum256([]byte(toSign))
	if !slices.ContainsFunc(keys.Keys, func(k jose.JSONWebKey) bool {
		key, ok := k.Key.(*rsa.PublicKey)
		return ok && rsa.VerifyPKCS1v15(key, crypto.SHA256, hash[:], sig.value) == nil
	}) {
		return nil, signatureWrong(toSign, request)
	}
	return &standin.Caller{
		Principal: "serviceAccount:" + sig.signer,
		Scopes:    []string{"https://www.googleapis.com/auth/devstorage.read_write"}, // a signature has no scopes
		ExpiresAt: sig.expires,
	}, nil
}

// keys are a service account's public keys; none for an account that is not there.
func (s *Server) keys(ctx context.Context, email string) (set jose.JSONWebKeySet, err error) {
	status, body, err := s.tokens.Get(ctx, "/service_accounts/v1/jwk/"+url.PathEscape(email), "")
	if err != nil || status != http.StatusOK {
		return set, err
	}
	return set, json.Unmarshal(body, &set)
}

func signatureExpired(at time.Time) *refusal {
	return refusedURL(http.StatusBadRequest, xmlRefusal{
		Code: "ExpiredToken", Message: "Invalid argument.",
		Details: "The provided token has expired. Request signature expired at: " + at.Format("2006-01-02T15:04:05-07:00"),
	})
}

func signedTooEarly() *refusal {
	return refusedURL(http.StatusForbidden, xmlRefusal{
		Code: "RequestTimeTooSkewed", Message: "The difference between the request time and the server's time is too large.",
	})
}

func signatureWrong(toSign, request string) *refusal {
	return refusedURL(http.StatusForbidden, xmlRefusal{
		Code: "SignatureDoesNotMatch", Message: accessDenied,
		Details:      "The request signature we calculated does not match the signature you provided. Check your Google secret key and signing method.",
		StringToSign: toSign, CanonicalRequest: request,
	})
}

func badParameter(name, remedy string) *refusal {
	return refusedURL(http.StatusBadRequest, xmlRefusal{
		Code: "InvalidQueryParameterValue", Message: "A query string parameter has an invalid value.", Details: name + ": " + remedy + ".",
	})
}

func badHeader(name string) *refusal {
	return refusedURL(http.StatusBadRequest, xmlRefusal{
		Code: "MalformedSecurityHeader", Message: "Your request has a malformed header.",
		Details: "Header " + name + " is in the request, and not among the signed headers.",
	})
}

func refusedURL(code int, x xmlRefusal) *refusal {
	return &refusal{code: code, message: cmp.Or(x.Details, x.Message), reason: "forbidden", xml: x}
}
