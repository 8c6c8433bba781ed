package googlecheck

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/api/googleapi"
)

// answer is Google's answer to a call, without tokens.
type answer struct {
	code   int    // HTTP status
	reason string // of the google.rpc.ErrorInfo (AIP-193), or the error of RFC 6749
	text   string
}

// answerOf returns the answer that an error of Google's clients is. Its own error is one
// that is no answer of Google's.
func answerOf(err error) (answer, error) {
	if err == nil {
		return answer{code: http.StatusOK, text: "accepted"}, nil
	}
	var api *googleapi.Error
	if !errors.As(err, &api) {
		return answer{}, err
	}
	a := answer{code: api.Code, text: api.Message}
	for _, detail := range api.Details {
		if info, ok := detail.(map[string]any); ok && info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo" {
			a.reason, _ = info["reason"].(string)
		}
	}
	var oauth struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal([]byte(api.Body), &oauth) == nil && oauth.Code != "" {
		a.reason, a.text = oauth.Code, oauth.Description
	}
	return a, nil
}

func (a answer) String() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.code, a.reason)) + ": " + strings.Join(strings.Fields(a.text), " ")
}

// is judges the answer of a call by its status and a part of its text.
func is(err error, code int, part string) (string, bool, error) {
	a, err := answerOf(err)
	return a.String(), a.code == code && strings.Contains(a.String(), part), err
}

// hasCode reports whether an error is an answer of Google's with that status.
func hasCode(err error, code int) bool {
	var api *googleapi.Error
	return errors.As(err, &api) && api.Code == code
}
