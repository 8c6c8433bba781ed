package fakegoogle

import (
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// publicIssuer answers for the tests' issuer as a cluster of EKS does.
type publicIssuer struct {
	name string // in its discovery document
	key  *rsa.PrivateKey
	down bool
}

func (i *publicIssuer) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := http.StatusOK, []byte("{}")
	switch path := strings.TrimPrefix(r.URL.String(), testIssuer); {
	case i.down:
		status = http.StatusServiceUnavailable
	case path == "/.well-known/openid-configuration":
		body = must(json.Marshal(map[string]string{"issuer": i.name, "jwks_uri": testIssuer + "/openid/v1/jwks"}))
	case path == "/openid/v1/jwks":
		body = must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &i.key.PublicKey, KeyID: "rsa", Algorithm: "RS256", Use: "sig"}}}))
	default:
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader(string(body))), Request: r}, nil
}

func TestProvider_WithoutKeysFetchesThoseOfPublicIssuer(t *testing.T) {
	const unreachable = "Error connecting to the given credential's issuer."
	issuer := &publicIssuer{name: testIssuer, key: issuerRSA()}
	g := newEmptyFixture(t, Options{Issuers: &http.Client{Transport: issuer}})
	check := func(problem, text string, token string) {
		t.Helper()
		response := g.form("/v1/token", exchangeForm(token))
		if text != "" {
			checkOAuthError(t, response, http.StatusBadRequest, "invalid_grant", text)
		} else if response.status != http.StatusOK {
			t.Errorf("%s: %d %s", problem, response.status, response.body)
		}
	}
	if err := g.AddProvider(Provider{Name: testProvider, Issuer: testIssuer}); err != nil {
		t.Fatal(err)
	}
	old := podToken(startTime, nil)
	next := sign(jose.RS256, otherRSA(), "rsa", podClaims(startTime, nil))
	check("published key", "", old)
	check("key that is not published", "Unable to verify the ID Token signature.", next)
	issuer.key = otherRSA()
	check("key after a rotation", "", next)
	issuer.name = testIssuer + "/"
	check("document of another issuer", unreachable, next)
	issuer.name, issuer.down = testIssuer, true
	check("issuer that is down", unreachable, next)

	g = newEmptyFixture(t, Options{})
	if err := g.AddProvider(Provider{Name: testProvider, Issuer: testIssuer}); err != nil {
		t.Fatal(err)
	}
	check("issuer without a way to it", unreachable, old)
}
