package gcs

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// host is the host of Cloud Storage.
const host = "storage.googleapis.com"

// The IAM permissions that the stand-in checks.
const (
	createBuckets = "storage.buckets.create"
	deleteBuckets = "storage.buckets.delete"
	getBuckets    = "storage.buckets.get"
	listBuckets   = "storage.buckets.list"
	updateBuckets = "storage.buckets.update"
	createObjects = "storage.objects.create"
	deleteObjects = "storage.objects.delete"
	getObjects    = "storage.objects.get"
	listObjects   = "storage.objects.list"
	updateObjects = "storage.objects.update"

	listManagedFolders = "storage.managedFolders.list"
)

// managedFolders is the part of a bucket with its managed folders, of which there are none.
const managedFolders = "managedFolders"

// access is one thing that a request does.
type access struct {
	bucket     string
	object     string
	permission string // of IAM, which Cloud Storage demands and names in its refusals
	write      bool
	names      bool // only the answer is sure to contain the object's name
}

// canonical returns a copy of the request as if it were sent to
// https://storage.googleapis.com.
//
// fake-gcs-server takes an unknown host for the name of a bucket, so the caller must not
// choose the host. Only the URL of a resumable upload, which the answer contains, must keep
// it.
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

// isXML reports whether a request is for the XML API, whose paths begin with the bucket.
func isXML(r *http.Request) bool {
	for _, prefix := range []string{"/storage/v1/", "/download/storage/v1/", "/upload/storage/v1/"} {
		if strings.HasPrefix(r.URL.EscapedPath(), prefix) {
			return false
		}
	}
	return true
}

// accessesOf returns the accesses of a request, its target first, or false if the stand-in does
// not serve it. Only requests that are understood here can reach fake-gcs-server.
func accessesOf(r *http.Request) ([]access, bool) {
	write := r.Method != http.MethodGet && r.Method != http.MethodHead
	path := r.URL.EscapedPath()
	if isXML(r) {
		return wantsXML(r, write)
	}
	if rest, ok := strings.CutPrefix(path, "/upload/storage/v1/b/"); ok {
		bucket, rest, _ := strings.Cut(rest, "/")
		if strings.TrimSuffix(rest, "/") != "o" || !write {
			return nil, false
		}
		object := url.PathEscape(r.URL.Query().Get("name"))
		return unescaped(access{bucket: bucket, object: object, permission: createObjects, write: true, names: true})
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(path, "/download"), "/storage/v1")
	if rest == "/b" || rest == "/b/" {
		permission := listBuckets
		if write {
			permission = createBuckets
		}
		return []access{{permission: permission, write: write}}, true
	}
	rest, ok := strings.CutPrefix(rest, "/b/")
	if !ok {
		return nil, false
	}
	bucket, rest, _ := strings.Cut(rest, "/")
	object := strings.TrimPrefix(rest, "o/")
	if object == rest || object == "" {
		return unescaped(access{bucket: bucket, permission: ofBucket(r.Method, rest, write), write: write})
	}
	target := access{bucket: bucket, object: object, permission: ofObject(r.Method, write), write: write}
	if plain, composed := strings.CutSuffix(object, "/compose"); composed && write {
		target.object, target.permission = plain, createObjects
	}
	for _, verb := range []string{"/rewriteTo/b/", "/copyTo/b/"} {
		if at := strings.LastIndex(object, verb); at >= 0 && write {
			bucket, into, _ := strings.Cut(object[at+len(verb):], "/o/")
			source := access{bucket: target.bucket, object: object[:at], permission: getObjects}
			return unescaped(access{bucket: bucket, object: into, permission: createObjects, write: true}, source)
		}
	}
	return unescaped(target)
}

func wantsXML(r *http.Request, write bool) ([]access, bool) {
	path := r.URL.EscapedPath()
	bucket, object, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if bucket == "" || strings.HasPrefix(bucket, "_") || path == "/batch/storage/v1" {
		return nil, false
	}
	if !write && object == "" {
		return unescaped(access{bucket: bucket, permission: listObjects})
	}
	permission := ofObject(r.Method, write)
	if r.Method == http.MethodPut {
		permission = createObjects
	}
	// With a token uploads have the JSON API.
	if write && (object == "" || !isSigned(r) || r.Method != http.MethodPut && r.Method != http.MethodDelete) {
		return nil, false
	}
	return unescaped(access{bucket: bucket, object: object, permission: permission, write: write})
}

// ofObject is the permission that a method needs on an object.
func ofObject(method string, write bool) string {
	switch {
	case !write:
		return getObjects
	case method == http.MethodDelete:
		return deleteObjects
	default:
		return updateObjects
	}
}

// ofBucket is the permission that a method needs on a bucket or its contents.
func ofBucket(method, part string, write bool) string {
	switch strings.TrimSuffix(part, "/") {
	case "o":
		if write {
			return createObjects
		}
		return listObjects
	case "storageLayout":
		return listObjects
	case managedFolders:
		return listManagedFolders
	}
	switch {
	case !write:
		return getBuckets
	case method == http.MethodDelete && part == "":
		return deleteBuckets
	default:
		return updateBuckets
	}
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
