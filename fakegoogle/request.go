package fakegoogle

import (
	"encoding/json"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// maxBody is the limit of a request's body, in bytes. It is far above any genuine
// request: a bound service account token has about 1 kB.
const maxBody = 1 << 20

// call is one request to an endpoint.
type call struct {
	*http.Request
	method string
	body   []byte
	// log collects the attributes of the call's log line; never a token.
	log []slog.Attr
}

func (c *call) addLogAttr(key, value string) {
	c.log = append(c.log, slog.String(key, value))
}

// form parses a request's form. RFC 6749, section 3.2: "Request and response
// parameters MUST NOT be included more than once."
func (c *call) form() (url.Values, error) {
	mediaType, _, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, oauthFailure("invalid_request", "Invalid Content-Type: expected application/x-www-form-urlencoded.")
	}
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return nil, oauthFailure("invalid_request", "Malformed request body.")
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, oauthFailure("invalid_request", "Parameter specified more than once: %s", name)
		}
	}
	return form, nil
}

// decode parses the JSON of a request message. An unknown field is an error; an empty
// body is an empty message.
func decode(body []byte, message any) error {
	if len(strings.TrimSpace(string(body))) == 0 {
		return nil
	}
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(message)
	if err == nil && decoder.More() {
		return invalidArgument("Invalid JSON payload received. Unexpected token after the message.")
	}
	if err == nil {
		return nil
	}
	// encoding/json has no type for this error.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return unknownField(strings.Trim(name, `"`))
	}
	return invalidArgument("Invalid JSON payload received. %s", strings.TrimPrefix(err.Error(), "json: "))
}
