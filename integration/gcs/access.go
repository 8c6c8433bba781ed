package gcs

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// host is where Cloud Storage is.
const host = "storage.googleapis.com"

// access is one thing that a request does.
type access struct {
	bucket string
	object string
	write  bool
	names  bool // the answer tells the object's name, the request may not
}

// permission is the IAM permission that Cloud Storage names in its refusals.
func (a access) permission(method string) string {
	kind, verb := "objects", "get"
	switch {
	case a.bucket == "" || (a.object == "" && a.write && !a.names):
		kind = "buckets"
		if !a.write {
			verb = "list"
		}
	case a.object == "" && !a.names:
		verb = "list"
	}
	if a.write {
		verb = map[string]string{http.MethodDelete: "delete", http.MethodPatch: "update"}[method]
		if verb == "" {
			verb = "create"
		}
	}
	return "storage." + kind + "." + verb
}

// canonical is a request as if it came to https://storage.googleapis.com. It
// is a copy, which may be changed.
//
// fake-gcs-server takes what it does not know for a bucket that is named by the
// host, so the host must not be the caller's choice. It must stay where it is
// told back: in the URL of a resumable upload.
func canonical(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	if bucket, ok := strings.CutSuffix(name, "."+host); ok {
		r.URL.Path = "/" + bucket + r.URL.Path
		if r.URL.RawPath != "" {
			r.URL.RawPath = "/" + bucket + r.URL.RawPath
		}
		name = host
	}
	if name == host || isXML(r) {
		r.Host = host
	}
	return r
}

// isXML says whether a request is one of the XML API, where the bucket is at
// the beginning of the path.
func isXML(r *http.Request) bool {
	for _, prefix := range []string{"/storage/v1/", "/download/storage/v1/", "/upload/storage/v1/"} {
		if strings.HasPrefix(r.URL.EscapedPath(), prefix) {
			return false
		}
	}
	return true
}

// wants says what a request does, its target first; false for what the stand-in
// does not serve. Only what is understood here may reach fake-gcs-server.
func wants(r *http.Request) ([]access, bool) {
	write := r.Method != http.MethodGet && r.Method != http.MethodHead
	path := r.URL.EscapedPath()
	if isXML(r) {
		bucket, object, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		if write || bucket == "" || strings.HasPrefix(bucket, "_") || path == "/batch/storage/v1" {
			return nil, false // uploads have the JSON API
		}
		return unescaped(access{bucket: bucket, object: object})
	}
	if rest, ok := strings.CutPrefix(path, "/upload/storage/v1/b/"); ok {
		bucket, rest, _ := strings.Cut(rest, "/")
		if strings.TrimSuffix(rest, "/") != "o" || !write {
			return nil, false
		}
		object := url.PathEscape(r.URL.Query().Get("name"))
		return unescaped(access{bucket: bucket, object: object, write: true, names: true})
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(path, "/download"), "/storage/v1")
	if rest == "/b" || rest == "/b/" {
		return []access{{write: write}}, true
	}
	rest, ok := strings.CutPrefix(rest, "/b/")
	if !ok {
		return nil, false
	}
	bucket, rest, _ := strings.Cut(rest, "/")
	object := strings.TrimPrefix(rest, "o/")
	if object == rest { // the bucket itself, its objects, or what else it has
		return unescaped(access{bucket: bucket, write: write})
	}
	target := access{bucket: bucket, object: strings.TrimSuffix(object, "/compose"), write: write}
	for _, verb := range []string{"/rewriteTo/b/", "/copyTo/b/"} {
		if at := strings.LastIndex(object, verb); at >= 0 && write {
			bucket, into, _ := strings.Cut(object[at+len(verb):], "/o/")
			source := access{bucket: target.bucket, object: object[:at]}
			return unescaped(access{bucket: bucket, object: into, write: true}, source)
		}
	}
	return unescaped(target)
}

func unescaped(wanted ...access) ([]access, bool) {
	for i := range wanted {
		for _, name := range []*string{&wanted[i].bucket, &wanted[i].object} {
			plain, err := url.PathUnescape(*name)
			if err != nil {
				return nil, false
			}
			*name = plain
		}
		if wanted[i].bucket == "" {
			return nil, false
		}
	}
	return wanted, true
}
