package fakecloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"gke-metadata-emulator/fakegoogle"
)

// maxBody is above any policy and any key set.
const maxBody = 1 << 20

// call is a request of the operator's.
type call struct {
	*http.Request
	body []byte
}

// decode reads the body. An unknown field is an error, so no field that a caller relies on
// is ignored.
func (c *call) decode(into any) error {
	if len(bytes.TrimSpace(c.body)) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(c.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "Invalid JSON payload received: %v.", err)
	}
	return nil
}

// refusal is an error of Google's: google.rpc.Status.
type refusal struct {
	code    int
	status  string // name of the google.rpc.Code
	message string
	details []any
}

func (r *refusal) Error() string { return r.message }

func refuse(code int, format string, args ...any) error {
	return &refusal{code: code, status: statuses[code], message: fmt.Sprintf(format, args...)}
}

// statuses are the codes of google.rpc by those of HTTP.
var statuses = map[int]string{
	http.StatusBadRequest:   "INVALID_ARGUMENT",
	http.StatusUnauthorized: "UNAUTHENTICATED",
	http.StatusForbidden:    "PERMISSION_DENIED",
	http.StatusNotFound:     "NOT_FOUND",
	http.StatusConflict:     "ALREADY_EXISTS",
}

// endpoint is the frame around the handlers for the operator.
func (s *Server) endpoint(answer func(*call) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		output, err := s.answer(w, r, answer)
		code := http.StatusOK
		if refused, ok := errors.AsType[*fakegoogle.Error](err); ok {
			code, output = refused.Code, refused
		} else if err != nil {
			refused, ok := errors.AsType[*refusal](err)
			if !ok {
				refused = &refusal{code: http.StatusInternalServerError, status: "INTERNAL", message: err.Error()}
			}
			code = refused.code
			failure := map[string]any{"code": code, "message": refused.message, "status": refused.status}
			if refused.details != nil { // gcloud cannot read null
				failure["details"] = refused.details
			}
			output = map[string]any{"error": failure}
		}
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(output) // the caller may have gone
	})
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, answer func(*call) (any, error)) (any, error) {
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	grant, known := s.google.Inspect(token)
	if !known {
		return nil, refuse(http.StatusUnauthorized, "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.")
	}
	if grant.Principal != s.operator {
		return nil, refuse(http.StatusForbidden, "The caller does not have permission: only %s sets things up here, not %s", s.operator, grant.Principal)
	}
	if err := s.checkEnabled(r); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	return answer(&call{Request: r, body: body})
}

// operation is a long-running one that has ended.
func operation(name string, response any) resource {
	return resource{"name": name + "/operations/done", "done": true, "response": response}
}
