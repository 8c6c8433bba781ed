package examples

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"path/filepath"
	"testing"
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
