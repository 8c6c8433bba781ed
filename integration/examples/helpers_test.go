package examples

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// absolute is the path of a file of this package, for programs that run elsewhere.
func absolute(t *testing.T, path string) string {
	t.Helper()
	absolute, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return absolute
}

func decodePEM(t *testing.T, text []byte) []byte {
	t.Helper()
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatal("not one block of PEM")
	}
	return block.Bytes
}

func accessToken(t *testing.T, s *Fixture, credentials []byte) string {
	t.Helper()
	token, err := s.redeem(t.Context(), credentials)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// tryGcloud runs a command of gcloud's. It has to succeed and print a text, or to fail with
// one.
func (s *Fixture) tryGcloud(t *testing.T, command, says, fails string) {
	t.Helper()
	output, err := s.run(t.Context(), append([]string{"gcloud"}, strings.Fields(command)...)...)
	switch {
	case fails == "" && (err != nil || !strings.Contains(output, says)):
		t.Errorf("gcloud %s: %q, %v, want %q", command, output, err, says)
	case fails != "" && (err == nil || !strings.Contains(err.Error(), fails)):
		t.Errorf("gcloud %s: %q, %v, want an error with %q", command, output, err, fails)
	}
}

// ask returns the status of an answer.
func ask(t *testing.T, client *http.Client, method, address, bearer string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+bearer)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	return response.StatusCode
}

// askJSON sends an object, or nothing, and returns the answer.
func askJSON(t *testing.T, client *http.Client, method, address, bearer string, object map[string]any) map[string]any {
	t.Helper()
	body, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+bearer)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer := map[string]any{}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// writeKeys writes a key set that Google accepts into the operator's home folder.
func (s *Fixture) writeKeys(t *testing.T, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Use: "sig", Algorithm: "ES256"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.home, name), set, 0o600); err != nil {
		t.Fatal(err)
	}
}
