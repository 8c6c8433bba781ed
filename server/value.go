package server

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"
)

// The content types of GKE's metadata server. Ruby's client accepts an identity
// token only with exactly this one or text/html, and without a charset.
const (
	contentText = "application/text"
	contentJSON = "application/json"
)

// value is what an endpoint answers: a text, a list or an object.
type value interface {
	// body is what stands on the wire.
	body() (contentType string, bytes []byte, err error)
	// recursive is what stands in a recursive answer, and alone with alt=json.
	recursive() any
	// texts is what stands in a recursive answer with alt=text, a line for each.
	texts() []string
}

// text is a bare value, without a newline: gcloud tests the numeric project ID for
// being digits only, and others take a newline for a part of the value.
type text string

func (t text) body() (string, []byte, error) { return contentText, []byte(t), nil }
func (t text) recursive() any                { return string(t) }
func (t text) texts() []string               { return []string{string(t)} }

// number is a text whose recursive form is a number, larger than a float64 holds.
type number string

func (n number) body() (string, []byte, error) { return contentText, []byte(n), nil }
func (n number) recursive() any                { return json.Number(n) }
func (n number) texts() []string               { return []string{string(n)} }

// lines is a list: a newline after each line, the last one included.
type lines []string

func (l lines) body() (string, []byte, error) {
	var b strings.Builder
	for _, line := range l {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return contentText, []byte(b.String()), nil
}
func (l lines) recursive() any  { return []string(l) }
func (l lines) texts() []string { return l }

// object is a JSON answer.
type object struct{ of any }

func (o object) body() (string, []byte, error) {
	b, err := json.Marshal(o.of)
	return contentJSON, b, err
}
func (o object) recursive() any  { return o.of }
func (o object) texts() []string { return nil }

// encoded is a value as it stands on the wire.
type encoded struct {
	body   []byte
	etag   string   // 16 hexadecimal digits, as Compute Engine's
	fields []string // of the header: Content-Type, ETag and Content-Length
}

func encode(v value) (encoded, error) {
	contentType, body, err := v.body()
	if err != nil {
		return encoded{}, fmt.Errorf("encode an answer: %w", err)
	}
	sum := etag(body)
	return encoded{body, sum, []string{contentType, sum, strconv.Itoa(len(body))}}, nil
}

// etag is the FNV-1a sum of the body.
func etag(body []byte) string {
	sum := fnv.New64a()
	_, _ = sum.Write(body)
	var raw [8]byte
	return hex.EncodeToString(sum.Sum(raw[:0]))
}

func (e encoded) write(w http.ResponseWriter) {
	header := w.Header()
	header["Content-Type"] = e.fields[0:1:1]
	header["ETag"] = e.fields[1:2:2] // spelt as Google spells it, not as Go would
	header["Content-Length"] = e.fields[2:3:3]
	_, _ = w.Write(e.body) // the caller has gone: nobody to tell
}
