package gcs

import (
	"cmp"
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
	challenge string // WWW-Authenticate; also marks errors about the token
	xml       xmlRefusal
}

func (r *refusal) Error() string { return r.message }

const (
	realm        = `Bearer realm="https://accounts.google.com/"`
	accessDenied = "Access denied."
)

func tokenMissing(permission string) *refusal {
	refused := forbidden(lacks("Anonymous caller", permission))
	refused.code, refused.reason, refused.challenge = http.StatusUnauthorized, "required", realm
	refused.xml.status = http.StatusForbidden
	return refused
}

func tokenInvalid() *refusal {
	return &refusal{
		code: http.StatusUnauthorized, message: "Invalid Credentials", reason: "authError", challenge: realm + `, error="invalid_token"`,
		xml: xmlRefusal{Code: "AuthenticationRequired", Message: "Authentication required."},
	}
}

func scopeMissing() *refusal { return forbidden("Provided scope(s) are not authorized") }

func denied(principal, permission string) *refusal {
	_, name, _ := strings.Cut(principal, ":")
	return forbidden(lacks(name, permission))
}

func forbidden(message string) *refusal {
	return &refusal{
		code: http.StatusForbidden, message: message, reason: "forbidden",
		xml: xmlRefusal{Code: "AccessDenied", Message: accessDenied, Details: message},
	}
}

func notThere() *refusal {
	return &refusal{
		code: http.StatusNotFound, message: "Not Found", reason: "notFound",
		xml: xmlRefusal{Code: "NoSuchKey", Message: "The specified key does not exist."},
	}
}

func backendDown() *refusal {
	return &refusal{
		code: http.StatusServiceUnavailable, message: "Backend Error", reason: "backendError",
		xml: xmlRefusal{Code: "ServiceUnavailable", Message: "Service unavailable."},
	}
}

func lacks(principal, permission string) string {
	object := "object"
	if strings.HasPrefix(permission, "storage.buckets.") || permission == "storage.objects.list" {
		object = "bucket"
	}
	return principal + " does not have " + permission + " access to the Google Cloud Storage " + object +
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
	XMLName          xml.Name `xml:"Error"`
	Code             string
	Message          string
	Details          string `xml:",omitempty"`
	StringToSign     string `xml:",omitempty"`
	CanonicalRequest string `xml:",omitempty"`

	status int // if it is another than in JSON
}

// plainer undoes escapes of encoding/xml that text does not need, as Google does.
var plainer = strings.NewReplacer("&#39;", "'", "&#34;", `"`, "&#xA;", "\n")

func writeError(w http.ResponseWriter, r *http.Request, refused *refusal) {
	if refused.challenge != "" {
		w.Header().Set("WWW-Authenticate", refused.challenge)
	}
	code := refused.code
	var body []byte
	var err error
	if isXML(r) {
		w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
		code = cmp.Or(refused.xml.status, code)
		body, err = xml.Marshal(refused.xml)
		body = []byte("<?xml version='1.0' encoding='UTF-8'?>" + plainer.Replace(string(body)))
	} else {
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		body, err = refused.json()
	}
	if err != nil {
		http.Error(w, "gcs: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(code)
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
