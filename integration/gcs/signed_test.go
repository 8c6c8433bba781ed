package gcs

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/storage"
)

// signBlob signs as IAM Credentials does, for the account of the token.
func (b *bench) signBlob(token, account string) func([]byte) ([]byte, error) {
	return func(blob []byte) ([]byte, error) {
		body, err := json.Marshal(map[string][]byte{"payload": blob})
		if err != nil {
			return nil, err
		}
		var answer struct{ SignedBlob []byte }
		b.google.Post(b.t, "/v1/projects/-/serviceAccounts/"+account+":signBlob", token, "application/json", string(body), &answer)
		return answer.SignedBlob, nil
	}
}

// signedURL is one that Google's library made.
func (b *bench) signedURL(method, object string, change ...func(*storage.SignedURLOptions)) *url.URL {
	b.t.Helper()
	opts := &storage.SignedURLOptions{
		Scheme: storage.SigningSchemeV4, Method: method, Expires: time.Now().Add(time.Hour),
		GoogleAccessID: testGSA, SignBytes: b.signBlob(b.token(cloudPlatform), testGSA),
	}
	for _, f := range change {
		f(opts)
	}
	text, err := storage.SignedURL(testBucket, object, opts)
	if err != nil {
		b.t.Fatal(err)
	}
	u, err := url.Parse(text)
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

// use sends a request with a signed URL and no other credential.
func (b *bench) use(method string, u *url.URL, body string, header ...string) (int, string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, u.String(), strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := b.clientWithCA(b.CA).Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

const signedObject = "dir/wine & water+ü.txt"

func (b *bench) uploadSigned() {
	b.t.Helper()
	path := "/upload/storage/v1/b/" + testBucket + "/o?uploadType=media&name=" + url.QueryEscape(signedObject)
	if response, text := b.do("POST", path, b.token(cloudPlatform), "red"); response.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s", response.Status, text)
	}
}

func TestSignedURL(t *testing.T) {
	b := newBench(t, grants{{testPrincipal, testBucket}: {createObjects, getObjects}}.authorize)
	b.uploadSigned()
	for name, u := range map[string]*url.URL{
		"path":              b.signedURL("GET", signedObject),
		"the bucket's host": b.signedURL("GET", signedObject, func(o *storage.SignedURLOptions) { o.Style = storage.VirtualHostedStyle() }),
		"a parameter": b.signedURL("GET", signedObject, func(o *storage.SignedURLOptions) {
			o.QueryParameters = url.Values{"response-content-disposition": {`attachment; filename="a b"`}}
		}),
	} {
		code, text := b.use("GET", u, "")
		if code != http.StatusOK || text != "red" {
			t.Errorf("%s: %d %s", name, code, text)
		}
		last := b.last()
		if !last.Signed || last.Principal != testPrincipal || last.Bucket != testBucket || last.Object != signedObject || last.Status != http.StatusOK ||
			last.Remaining < 59*time.Minute || last.Remaining > time.Hour {
			t.Errorf("%s: record %+v", name, last)
		}
		if signature := u.Query().Get(signatureParam); len(signature) != 512 || strings.Contains(b.log.String(), signature) {
			t.Errorf("%s: the signature is %d digits, or in the log", name, len(signature))
		}
	}
	b.do("GET", objectPath, b.token(cloudPlatform), "")
	if last := b.last(); last.Signed {
		t.Errorf("record of a request with a token: %+v", last)
	}
}

func TestSignedURL_Upload(t *testing.T) {
	b := newBench(t, grants{{testPrincipal, testBucket}: {createObjects}}.authorize)
	put := b.signedURL("PUT", signedObject, func(o *storage.SignedURLOptions) {
		o.ContentType, o.Headers = "text/plain", []string{"x-goog-meta-colour:  deep   red "}
	})
	if code, text := b.use("PUT", put, "red", "Content-Type", "text/plain", "x-goog-meta-colour", "deep red"); code != http.StatusOK {
		t.Errorf("%d %s", code, text)
	}
	if content, _ := b.Object(testBucket, signedObject); string(content) != "red" {
		t.Errorf("the object is %q", content)
	}
	if code, text := b.use("PUT", put, "white", "Content-Type", "text/html", "x-goog-meta-colour", "deep red"); code != http.StatusForbidden {
		t.Errorf("another content type than the signed one: %d %s", code, text)
	}
	if code, text := b.use("PUT", put, "white", "Content-Type", "text/plain", "x-goog-meta-colour", "deep red", "x-goog-acl", "public-read"); code != http.StatusBadRequest {
		t.Errorf("with a header that is not signed: %d %s", code, text)
	}
	// Permission to create is no permission to read: a URL has the signer's permissions.
	code, text := b.use("GET", b.signedURL("GET", signedObject), "")
	if want := "<Details>" + testGSA + " does not have storage.objects.get access"; code != http.StatusForbidden || !strings.Contains(text, want) {
		t.Errorf("%d %s, want 403 %s", code, text, want)
	}
	if last := b.last(); last.Principal != testPrincipal || last.Status != http.StatusForbidden {
		t.Errorf("record %+v", last)
	}
}

// Whatever is changed of a signed URL makes it worthless.
func TestSignedURL_TamperedIsRefused(t *testing.T) {
	b := newBench(t, nil) // everyone may do everything
	const another = "another@demo-project.iam.gserviceaccount.com"
	b.google.Bind(another, "roles/viewer", "user:any@example.com") // it is there
	b.uploadSigned()
	set := func(name, value string) func(*url.URL) {
		return func(u *url.URL) {
			query := u.Query()
			query.Set(name, value)
			u.RawQuery = query.Encode()
		}
	}
	good := b.signedURL("GET", signedObject)
	query := good.Query()
	signature := query.Get(signatureParam)
	other := "0" // a hexadecimal digit that is not the signature's own first one
	if strings.HasPrefix(signature, other) {
		other = "1"
	}
	credential := query.Get("X-Goog-Credential")
	for name, test := range map[string]struct {
		change func(*url.URL)
		method string
		code   int
		want   string
	}{
		"nothing":             {method: "GET", code: 200},
		"the method":          {method: "DELETE", code: 403, want: "SignatureDoesNotMatch"},
		"the object":          {change: func(u *url.URL) { u.Path, u.RawPath = "/"+testBucket+"/wine.txt", "" }, code: 403, want: "SignatureDoesNotMatch"},
		"the bucket":          {change: func(u *url.URL) { u.Path, u.RawPath = "/museum/"+signedObject, "" }, code: 403, want: "SignatureDoesNotMatch"},
		"the bucket by host":  {change: func(u *url.URL) { u.Host = "museum." + host }, code: 403, want: "SignatureDoesNotMatch"},
		"the signature":       {change: set(signatureParam, other+signature[1:]), code: 403, want: "SignatureDoesNotMatch"},
		"no hex":              {change: set(signatureParam, "zz"), code: 400, want: "InvalidQueryParameterValue"},
		"no signature":        {change: set(signatureParam, ""), code: 403, want: "SignatureDoesNotMatch"},
		"the lifetime":        {change: set("X-Goog-Expires", "604800"), code: 403, want: "SignatureDoesNotMatch"},
		"too long a lifetime": {change: set("X-Goog-Expires", "604801"), code: 400, want: "InvalidQueryParameterValue"},
		"the time":            {change: set("X-Goog-Date", time.Now().UTC().Add(time.Minute).Format(signedTime)), code: 403, want: "SignatureDoesNotMatch"},
		"the account":         {change: set("X-Goog-Credential", strings.Replace(credential, testGSA, another, 1)), code: 403, want: "SignatureDoesNotMatch"},
		"an unknown account":  {change: set("X-Goog-Credential", strings.Replace(credential, testGSA, "nobody@demo-project.iam.gserviceaccount.com", 1)), code: 403, want: "SignatureDoesNotMatch"},
		"the day":             {change: set("X-Goog-Credential", strings.Replace(credential, "/2", "/1", 1)), code: 400, want: "InvalidQueryParameterValue"},
		"the service":         {change: set("X-Goog-Credential", strings.Replace(credential, "/storage/", "/run/", 1)), code: 400, want: "InvalidQueryParameterValue"},
		"one more parameter":  {change: set("generation", "1"), code: 403, want: "SignatureDoesNotMatch"},
		"no signed host":      {change: set("X-Goog-SignedHeaders", "x-goog-date"), code: 400, want: "InvalidQueryParameterValue"},
		"the algorithm":       {change: set("X-Goog-Algorithm", "GOOG4-HMAC-SHA256"), code: 400, want: "InvalidQueryParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			u := *good
			if test.change != nil {
				test.change(&u)
			}
			method := "GET"
			if test.method != "" {
				method = test.method
			}
			code, text := b.use(method, &u, "")
			if code != test.code || !strings.Contains(text, "<Code>"+test.want+"</Code>") && test.want != "" {
				t.Errorf("%d %s, want %d %s", code, text, test.code, test.want)
			}
			if last := b.last(); test.code != 200 && (last.Principal != "" || !last.Signed || last.Status != test.code) {
				t.Errorf("record %+v", last)
			}
		})
	}
	if content, _ := b.Object(testBucket, signedObject); string(content) != "red" {
		t.Errorf("the object is %q afterwards", content)
	}
}

func TestSignedURL_RefusalHasGooglesText(t *testing.T) {
	b := newBench(t, nil)
	u := b.signedURL("GET", "wine.txt")
	u.Path = "/" + testBucket + "/beer.txt"
	_, text := b.use("GET", u, "")
	var got xmlRefusal
	if err := xml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	if got.Message != "Access denied." ||
		got.Details != "The request signature we calculated does not match the signature you provided. Check your Google secret key and signing method." ||
		!slices.Equal(strings.Split(got.StringToSign, "\n")[:3], []string{algorithm, query.Get("X-Goog-Date"), strings.TrimPrefix(query.Get("X-Goog-Credential"), testGSA+"/")}) ||
		!strings.HasPrefix(got.CanonicalRequest, "GET\n/"+testBucket+"/beer.txt\nX-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential="+url.QueryEscape(testGSA)) ||
		!strings.HasSuffix(got.CanonicalRequest, "\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD") {
		t.Errorf("the refusal is %s", text)
	}
}

func TestSignedURL_Expires(t *testing.T) {
	now := time.Now()
	b := newBench(t, func(o *Options) { o.Now = func() time.Time { return now } })
	b.uploadSigned()
	u := b.signedURL("GET", signedObject)
	signed, err := time.Parse(signedTime, u.Query().Get("X-Goog-Date"))
	if err != nil {
		t.Fatal(err)
	}
	life, err := time.ParseDuration(u.Query().Get("X-Goog-Expires") + "s")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		at   time.Time
		code int
		want string
	}{
		{signed.Add(life), 200, "red"},
		{signed.Add(life + time.Second), 400, "<Code>ExpiredToken</Code><Message>Invalid argument.</Message><Details>The provided token has expired. Request signature expired at: " +
			signed.Add(life).Format("2006-01-02T15:04:05") + "+00:00</Details>"},
		{signed.Add(-maxSkew), 200, "red"},
		{signed.Add(-maxSkew - time.Second), 403, "<Code>RequestTimeTooSkewed</Code>"},
	} {
		now = test.at
		if code, text := b.use("GET", u, ""); code != test.code || !strings.Contains(text, test.want) {
			t.Errorf("at %s: %d %s, want %d %s", test.at.Sub(signed), code, text, test.code, test.want)
		}
	}
}

// A signature is for the XML API; the JSON API takes tokens alone.
func TestSignedURL_IsNoToken(t *testing.T) {
	b := newBench(t, nil)
	b.uploadSigned()
	u := b.signedURL("GET", signedObject)
	if response, text := b.do("GET", objectPath+"?"+u.RawQuery, "", ""); response.StatusCode != http.StatusUnauthorized {
		t.Errorf("%s %s", response.Status, text)
	}
	if code, _ := b.use("PUT", &url.URL{Scheme: "https", Host: host, Path: u.Path}, "white"); code != http.StatusNotFound {
		t.Errorf("a PUT without a signature: %d", code)
	}
}
