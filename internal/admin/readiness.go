package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Readiness is the body of /readyz?format=json.
type Readiness struct {
	Ready      bool   `json:"ready"`
	Reason     string `json:"reason,omitempty"` // why it is not ready
	InstanceID string `json:"instanceID"`
	// NodeURL is the base URL at which processes in the node's network namespace
	// reach the metadata server; empty if they reach it as pods do.
	NodeURL string `json:"nodeURL,omitempty"`
}

// maxBody is the limit in bytes of a body that [ReadReadiness] reads.
const maxBody = 64 << 10

// readyz answers with status 200 or 503, and with text unless JSON is requested.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	readiness := Readiness{Ready: true, InstanceID: s.options.InstanceID, NodeURL: s.options.NodeURL}
	status := http.StatusOK
	if err := s.options.Ready(); err != nil {
		readiness.Ready, readiness.Reason = false, err.Error()
		status = http.StatusServiceUnavailable
	}
	switch {
	case r.URL.Query().Get("format") == "json":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(readiness)
	case !readiness.Ready:
		http.Error(w, readiness.Reason, status)
	default:
		_, _ = fmt.Fprint(w, readiness.text())
	}
}

// text is for people.
func (r Readiness) text() string {
	text := "ok, instance " + r.InstanceID + "\n"
	if r.NodeURL != "" {
		text += "not redirected: pods of the node's network; they find the server at " + r.NodeURL + "\n"
	}
	return text
}

// ReadReadiness requests the readiness from the admin server at an address, IP:PORT.
// An error says why the program is not ready, or why that is unknown.
func ReadReadiness(ctx context.Context, client *http.Client, address string) (Readiness, error) {
	url := "http://" + address + "/readyz?format=json"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Readiness{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return Readiness{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return Readiness{}, fmt.Errorf("GET %s: %w", url, err)
	}
	var readiness Readiness
	err = json.Unmarshal(body, &readiness)
	switch {
	case response.StatusCode != http.StatusOK && readiness.Reason != "":
		return readiness, fmt.Errorf("GET %s: %s: %s", url, response.Status, readiness.Reason)
	case response.StatusCode != http.StatusOK:
		return readiness, fmt.Errorf("GET %s: %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	case err != nil:
		return readiness, fmt.Errorf("GET %s: %w", url, err)
	case !readiness.Ready || readiness.InstanceID == "":
		return readiness, errors.New("GET " + url + ": the answer is not of an admin server: " + strings.TrimSpace(string(body)))
	}
	return readiness, nil
}
