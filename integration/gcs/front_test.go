package gcs

import (
	"encoding/json"
	"fmt"
	"gke-metadata-emulator/integration/internal/standintest"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	objectPath = "/storage/v1/b/" + testBucket + "/o/wine.txt"
	uploadPath = "/upload/storage/v1/b/" + testBucket + "/o?uploadType=media&name=wine.txt"
)

func TestRefusals(t *testing.T) {
	b := newBench(t, nil)
	good := b.token(cloudPlatform)
	if response, text := b.do("POST", uploadPath, good, "red"); response.StatusCode != http.StatusOK {
		t.Fatalf("upload: %s %s", response.Status, text)
	}
	expired := b.google.ExpiredToken(t, "shop", "cart", testGSA, cloudPlatform)

	const missing = "Anonymous caller does not have storage.objects.%s access to the Google Cloud Storage object. Permission 'storage.objects.%[1]s' denied on resource (or it may not exist)."
	for _, test := range []struct {
		name, method, path, token string
		code                      int
		message, reason           string
	}{
		{"read without a token", "GET", objectPath, "", 401, fmt.Sprintf(missing, "get"), "required"},
		{"write without a token", "POST", uploadPath, "", 401, fmt.Sprintf(missing, "create"), "required"},
		{"read with an unknown token", "GET", objectPath, "ya29.garbage", 401, "Invalid Credentials", "authError"},
		{"write with an unknown token", "POST", uploadPath, "ya29.garbage", 401, "Invalid Credentials", "authError"},
		{"expired token", "GET", objectPath, expired, 401, "Invalid Credentials", "authError"},
		{"scope of something else", "GET", objectPath, b.token(auth + "userinfo.email"), 403, "Provided scope(s) are not authorized", "forbidden"},
		{"write with a scope to read", "POST", uploadPath, b.token(auth + "devstorage.read_only"), 403, "Provided scope(s) are not authorized", "forbidden"},
		{"delete with a scope to read", "DELETE", objectPath, b.token(auth + "devstorage.read_only"), 403, "Provided scope(s) are not authorized", "forbidden"},
		{"not of Cloud Storage", "GET", "/storage/v1/projects", good, 404, "Not Found", "notFound"},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, text := b.do(test.method, test.path, test.token, "white")
			var body jsonRefusal
			if err := json.Unmarshal([]byte(text), &body); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			e := body.Error
			if response.StatusCode != test.code || e.Code != test.code || e.Message != test.message || len(e.Errors) != 1 || e.Errors[0].Reason != test.reason {
				t.Errorf("%s %s, want %d %s %q", response.Status, text, test.code, test.reason, test.message)
			}
			if challenge := response.Header.Get("WWW-Authenticate"); (challenge != "") != (test.code == 401) {
				t.Errorf("WWW-Authenticate %q", challenge)
			}
			if last := b.last(); last.Status != test.code || last.Method != test.method {
				t.Errorf("record %+v", last)
			}
		})
	}
	if _, text := b.do("GET", objectPath+"?alt=media", good, ""); text != "red" {
		t.Errorf("the object is %q afterwards", text)
	}
}

func TestScopes(t *testing.T) {
	b := newBench(t, nil)
	for _, scope := range []string{"cloud-platform", "devstorage.full_control", "devstorage.read_write"} {
		if response, text := b.do("POST", uploadPath, b.token(auth+scope), scope); response.StatusCode != http.StatusOK {
			t.Errorf("write with %s: %s %s", scope, response.Status, text)
		}
		reader := b.token(auth + "devstorage.read_only")
		if _, text := b.do("GET", objectPath+"?alt=media", reader, ""); text != scope {
			t.Errorf("read %q after %q", text, scope)
		}
	}
}

func TestXMLRefusals(t *testing.T) {
	b := newBench(t, nil)
	for token, want := range map[string]struct {
		code int
		text string
	}{
		"": {http.StatusForbidden, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code><Message>Access denied.</Message>" +
			"<Details>Anonymous caller does not have storage.objects.get access to the Google Cloud Storage object. " +
			"Permission 'storage.objects.get' denied on resource (or it may not exist).</Details></Error>"},
		"ya29.garbage": {http.StatusUnauthorized, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AuthenticationRequired</Code>" +
			"<Message>Authentication required.</Message></Error>"},
	} {
		response, text := b.do("GET", "/"+testBucket+"/wine.txt", token, "")
		if response.StatusCode != want.code || text != want.text {
			t.Errorf("%s %s, want %d %s", response.Status, text, want.code, want.text)
		}
	}
}

func TestRecord(t *testing.T) {
	b := newBench(t, nil)
	token := b.token(cloudPlatform)
	b.do("POST", uploadPath, token, "red")
	got := b.last()
	if got.Principal != "serviceAccount:"+testGSA || got.KSA != "shop/cart" || len(got.Through) != 1 || got.Through[0] != standintest.Principal("shop", "cart") {
		t.Errorf("caller: %+v", got)
	}
	if got.Method != "POST" || got.Bucket != testBucket || got.Object != "wine.txt" || got.Status != http.StatusOK {
		t.Errorf("what: %+v", got)
	}
	if got.Remaining < 59*time.Minute || got.Remaining > time.Hour {
		t.Errorf("remaining lifetime %s", got.Remaining)
	}

	b.do("GET", objectPath, "ya29.garbage", "")
	if got := b.last(); got.Principal != "" || got.KSA != "" || got.Status != http.StatusUnauthorized {
		t.Errorf("record of a refused token: %+v", got)
	}
	everything := b.log.String() + fmt.Sprintf("%+v", b.Records())
	if strings.Contains(everything, token) || strings.Contains(everything, "garbage") {
		t.Error("there is a token in the log or the records")
	}
	if !strings.Contains(everything, "object=wine.txt") {
		t.Errorf("the log does not name the object: %s", b.log)
	}
}

func TestRecord_HasTheObjectNameFromTheBody(t *testing.T) {
	b := newBench(t, nil)
	token := b.token(cloudPlatform)
	const body = "--x\r\nContent-Type: application/json\r\n\r\n{\"name\": \"dir/port.txt\"}\r\n" +
		"--x\r\nContent-Type: text/plain\r\n\r\ntawny\r\n--x--\r\n"
	request := httptest.NewRequest("POST", "/upload/storage/v1/b/"+testBucket+"/o?uploadType=multipart", strings.NewReader(body))
	request.Header.Set("Content-Type", "multipart/related; boundary=x")
	request.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	b.ServeHTTP(w, request)
	if got := b.last(); got.Object != "dir/port.txt" || got.Status != http.StatusOK {
		t.Errorf("record %+v of answer %s", got, w.Body)
	}
}

// grants are permissions on buckets, by principal and bucket, as in IAM.
type grants map[[2]string][]string

func (g grants) authorize(o *Options) {
	o.Authorize = func(bucket, principal, permission string) bool {
		return slices.Contains(g[[2]string{principal, bucket}], permission)
	}
}

const testPrincipal = "serviceAccount:" + testGSA

func TestAuthorizer(t *testing.T) {
	b := newBench(t, grants{
		{testPrincipal, testBucket}: {createObjects, getObjects, listObjects},
		{testPrincipal, "museum"}:   {getObjects, listObjects},
	}.authorize)
	b.CreateBucket("museum")
	b.CreateBucket("vault")
	token := b.token(cloudPlatform)
	b.do("POST", uploadPath, token, "red")
	for _, test := range []struct {
		method, path string
		denied       string
	}{
		{"GET", objectPath, ""},
		{"GET", "/storage/v1/b/museum/o", ""},
		{"GET", "/museum", ""},
		{"POST", "/upload/storage/v1/b/museum/o?uploadType=media&name=x", createObjects},
		{"PUT", "/upload/storage/v1/b/museum/o?uploadType=resumable&upload_id=x", createObjects},
		{"GET", "/storage/v1/b/vault/o", listObjects},
		{"GET", "/storage/v1/b/vault/o/", listObjects},
		{"GET", "/vault", listObjects},
		{"GET", "/storage/v1/b/vault/storageLayout", listObjects},
		{"GET", "/storage/v1/b/vault/o/x", getObjects},
		{"GET", "/download/storage/v1/b/vault/o/x", getObjects},
		{"HEAD", "/vault/x", ""}, // no text to look at
		{"DELETE", "/storage/v1/b/vault/o/x", deleteObjects},
		{"PATCH", objectPath, updateObjects},
		{"PUT", objectPath, updateObjects},
		{"POST", "/storage/v1/b/museum/o/x/compose", createObjects},
		{"POST", objectPath + "/rewriteTo/b/vault/o/x", createObjects},
		{"POST", "/storage/v1/b/vault/o/x/copyTo/b/" + testBucket + "/o/x", getObjects},
		{"POST", objectPath + "/rewriteTo/b/" + testBucket + "/o/x", ""},
		{"GET", "/storage/v1/b/" + testBucket, getBuckets},
		{"PATCH", "/storage/v1/b/" + testBucket, updateBuckets},
		{"DELETE", "/storage/v1/b/" + testBucket, deleteBuckets},
		{"POST", "/storage/v1/b", createBuckets},
		{"GET", "/storage/v1/b", listBuckets},
	} {
		response, text := b.do(test.method, test.path, token, "")
		if test.method == "HEAD" {
			if response.StatusCode != http.StatusForbidden {
				t.Errorf("%s %s: %s", test.method, test.path, response.Status)
			}
			continue
		}
		if test.denied == "" && response.StatusCode != http.StatusOK {
			t.Errorf("%s %s: %s %s", test.method, test.path, response.Status, text)
		}
		if test.denied != "" && (response.StatusCode != http.StatusForbidden || !strings.Contains(text, testGSA+" does not have "+test.denied+" access to ")) {
			t.Errorf("%s %s: %s %s, want %s denied", test.method, test.path, response.Status, text, test.denied)
		}
	}
}

func TestDenial_HasGooglesText(t *testing.T) {
	b := newBench(t, grants{}.authorize)
	_, text := b.do("POST", uploadPath, b.token(cloudPlatform), "red")
	const message = testGSA + " does not have storage.objects.create access to the Google Cloud Storage object. " +
		"Permission 'storage.objects.create' denied on resource (or it may not exist)."
	var got jsonRefusal
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Error.Code != 403 || got.Error.Message != message || len(got.Error.Errors) != 1 ||
		got.Error.Errors[0] != (jsonRefusalItem{Message: message, Domain: "global", Reason: "forbidden"}) {
		t.Errorf("the refusal is %s", text)
	}
	if last := b.last(); last.Principal != testPrincipal || last.Status != http.StatusForbidden {
		t.Errorf("record %+v", last)
	}
	if _, there := b.Object(testBucket, "wine.txt"); there {
		t.Error("the object is there")
	}
}

// The front must not take another bucket for the one that fake-gcs-server does.
func TestHost_DoesNotSelectABucket(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Authorize = func(bucket, _, _ string) bool { return bucket == testBucket }
	})
	b.CreateBucket("vault")
	token := b.token(cloudPlatform)
	b.do("POST", uploadPath, token, "red")
	get := func(host, path string) *httptest.ResponseRecorder {
		request := httptest.NewRequest("GET", path, nil)
		request.Host = host
		request.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		b.ServeHTTP(w, request)
		return w
	}
	if w := get(testBucket+".storage.googleapis.com", "/wine.txt"); w.Body.String() != "red" {
		t.Errorf("by the bucket's host: %d %s", w.Code, w.Body)
	}
	if w := get("vault", "/"+testBucket+"/wine.txt"); w.Body.String() != "red" {
		t.Errorf("by a foreign host: %d %s", w.Code, w.Body)
	}
	if w := get("vault.storage.googleapis.com:443", "/wine.txt"); w.Code != http.StatusForbidden {
		t.Errorf("another bucket: %d %s", w.Code, w.Body)
	}
}

func TestServer_ReportsThatFakegoogleIsDown(t *testing.T) {
	google := httptest.NewServer(http.NotFoundHandler())
	b := newBench(t, func(o *Options) { o.Fake = google.URL })
	for range 2 {
		response, text := b.do("GET", objectPath, "ya29.any", "")
		if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, "backendError") {
			t.Errorf("%s %s", response.Status, text)
		}
		google.Close() // and once more, without
	}
	if !strings.Contains(b.log.String(), "is it fakegoogle?") || !strings.Contains(b.log.String(), "is fakegoogle running there?") {
		t.Errorf("the log has no remedy: %s", b.log)
	}
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "Options.Fake") {
		t.Errorf("without a Google: %v", err)
	}
}
