package server

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// The content types of GKE's metadata server, without a charset.
const (
	contentText = "application/text"
	contentJSON = "application/json"
)

// contentIDToken is the content type of ID tokens on Compute Engine; GKE's is not
// known. Ruby's googleauth parses an ID token of any other type as JSON up to 0.16.0
// (Debian 12 has 0.13.0); later versions also take application/text. Other clients do
// not look at it.
const contentIDToken = "text/html"

// value is the value of a key or a directory: a text, a list or a JSON document.
type value interface {
	// body is the plain response.
	body() (contentType string, bytes []byte, err error)
	// json is the value's part of a recursive response, and its response with alt=json.
	json() any
	// lines is the value's part of a recursive response with alt=text.
	lines() []string
}

// text is a bare value without a newline: gcloud checks that the numeric project ID
// has digits only, and other clients take a newline for a part of the value.
type text string

func (t text) body() (string, []byte, error) { return contentText, []byte(t), nil }
func (t text) json() any                     { return string(t) }
func (t text) lines() []string               { return []string{string(t)} }

// number is a text that is a number in JSON, too large for a float64.
type number string

func (n number) body() (string, []byte, error) { return contentText, []byte(n), nil }
func (n number) json() any                     { return json.Number(n) }
func (n number) lines() []string               { return []string{string(n)} }

// idToken is a text that has its own content type.
type idToken struct{ text }

func (t idToken) body() (string, []byte, error) { return contentIDToken, []byte(t.text), nil }

// list is a list: each line ends in a newline, the last one included.
type list []string

func (l list) body() (string, []byte, error) {
	var b strings.Builder
	for _, line := range l {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return contentText, []byte(b.String()), nil
}
func (l list) json() any       { return []string(l) }
func (l list) lines() []string { return l }

// document is a JSON response.
type document struct{ content any }

func (d document) body() (string, []byte, error) {
	b, err := json.Marshal(d.content)
	return contentJSON, b, err
}
func (d document) json() any       { return d.content }
func (d document) lines() []string { return nil }

// encoded is a value in the form that is sent.
type encoded struct {
	body   []byte
	etag   string   // 16 hexadecimal digits, as on Compute Engine
	fields []string // header fields: Content-Type, ETag, Content-Length
}

func encode(v value) (encoded, error) {
	contentType, body, err := v.body()
	if err != nil {
		return encoded{}, fmt.Errorf("encode a response: %w", err)
	}
	tag := etag(body)
	return encoded{body, tag, []string{contentType, tag, strconv.Itoa(len(body))}}, nil
}

// etag is the FNV-1a sum of the body.
func etag(body []byte) string {
	sum := fnv.New64a()
	_, _ = sum.Write(body)
	var raw [8]byte
	return hex.EncodeToString(sum.Sum(raw[:0]))
}
