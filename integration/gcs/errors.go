package gcs

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"strings"
)

// refusal is an answer of Cloud Storage's, in the words of both of its APIs. See
// "HTTP status and error codes for JSON" and the same for XML.
type refusal struct {
	code      int
	message   string
	reason    string // JSON
	xmlCode   string
	challenge string // WWW-Authenticate; also says that a token is the matter
}

func (r *refusal) Error() string { return r.message }

const realm = `Bearer realm="https://accounts.google.com/"`

func tokenMissing(permission string) *refusal {
	return &refusal{http.StatusUnauthorized, lacks("Anonymous caller", permission), "required", "AccessDenied", realm}
}

func tokenInvalid() *refusal {
	return &refusal{http.StatusUnauthorized, "Invalid Credentials", "authError", "AuthenticationRequired", realm + `, error="invalid_token"`}
}

func scopeMissing() *refusal {
	return &refusal{http.StatusForbidden, "Provided scope(s) are not authorized", "forbidden", "AccessDenied", ""}
}

func denied(principal, permission string) *refusal {
	_, name, _ := strings.Cut(principal, ":")
	return &refusal{http.StatusForbidden, lacks(name, permission), "forbidden", "AccessDenied", ""}
}

func notThere() *refusal {
	return &refusal{http.StatusNotFound, "Not Found", "notFound", "NoSuchKey", ""}
}

func backendDown() *refusal {
	return &refusal{http.StatusServiceUnavailable, "Backend Error", "backendError", "ServiceUnavailable", ""}
}

func lacks(who, permission string) string {
	object := "object"
	if strings.HasPrefix(permission, "storage.buckets.") || permission == "storage.objects.list" {
		object = "bucket"
	}
	return who + " does not have " + permission + " access to the Google Cloud Storage " + object +
		". Permission '" + permission + "' denied on resource (or it may not exist)."
}

type jsonRefusal struct {
	Error struct {
		Code    int               `json:"code"`
		Message string            `json:"message"`
		Errors  []jsonRefusalItem `json:"errors"`
	} `json:"error"`
}

type jsonRefusalItem struct {
	Message      string `json:"message"`
	Domain       string `json:"domain"`
	Reason       string `json:"reason"`
	LocationType string `json:"locationType,omitempty"`
	Location     string `json:"location,omitempty"`
}

type xmlRefusal struct {
	XMLName xml.Name `xml:"Error"`
	Code    string   `xml:"Code"`
	Message string   `xml:"Message"`
}

func writeError(w http.ResponseWriter, r *http.Request, refused *refusal) {
	if refused.challenge != "" {
		w.Header().Set("WWW-Authenticate", refused.challenge)
	}
	var body []byte
	var err error
	if isXML(r) {
		w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
		body, err = xml.Marshal(xmlRefusal{Code: refused.xmlCode, Message: refused.message})
	} else {
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		body, err = refused.json()
	}
	if err != nil {
		http.Error(w, "gcs: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(refused.code)
	_, _ = w.Write(body) // a caller that hung up is its own problem
}

func (r *refusal) json() ([]byte, error) {
	item := jsonRefusalItem{Message: r.message, Domain: "global", Reason: r.reason}
	if r.challenge != "" {
		item.LocationType, item.Location = "header", "Authorization"
	}
	var body jsonRefusal
	body.Error.Code, body.Error.Message, body.Error.Errors = r.code, r.message, []jsonRefusalItem{item}
	return json.MarshalIndent(body, "", "  ")
}
