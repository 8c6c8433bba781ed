package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"gke-metadata-emulator/integration/gcs"
)

// The identity that the uploader must have: the default of the standalone mode.
const (
	expectedKSA       = "default/default"
	expectedFederated = "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/demo-pool/subject/system:serviceaccount:default:default"
	expectedGSA       = "serviceAccount:demo@demo-project.iam.gserviceaccount.com"
)

// proof is the evidence from Cloud Storage.
type proof struct {
	upload    gcs.Record
	size      int    // of the object, in bytes
	sum       string // SHA-256
	anonymous string // the answer to a request without a token
}

// prove runs the uploader and checks the evidence.
func prove(ctx context.Context, folder string, a addresses, s *cloudStorage) (*proof, error) {
	result, err := runUploader(ctx, folder, object, a, s)
	if err != nil {
		return nil, err
	}
	upload, err := check(result, s.Records())
	if err != nil {
		return nil, err
	}
	refusal, err := requestWithoutToken(ctx, s.url)
	if err != nil {
		return nil, err
	}
	return &proof{upload: upload, size: result.Bytes, sum: result.Written, anonymous: refusal}, nil
}

// check returns the record of the upload, if the bytes and all identities are as
// expected.
func check(result uploadResult, records []gcs.Record) (gcs.Record, error) {
	var upload gcs.Record
	fail := func(format string, args ...any) (gcs.Record, error) {
		return upload, fmt.Errorf("the proof failed: "+format, args...)
	}
	if result.Bytes == 0 || result.Read != result.Written {
		return fail("%d bytes with SHA-256 %s were written, and %s was read back", result.Bytes, result.Written, result.Read)
	}
	var written, read bool
	for _, r := range records {
		if r.Bucket != bucket || r.Object != object || r.Status != http.StatusOK {
			return fail("%s gs://%s/%s was answered %d", r.Method, r.Bucket, r.Object, r.Status)
		}
		for _, c := range []struct{ name, got, want string }{
			{"principal", r.Principal, expectedGSA},
			{"KSA", r.KSA, expectedKSA},
			{"delegation chain", strings.Join(r.Through, ", "), expectedFederated},
		} {
			if c.got != c.want {
				return fail("the %s of a %s is %q, not %q", c.name, r.Method, c.got, c.want)
			}
		}
		if r.Remaining < 5*time.Minute || r.Remaining > time.Hour {
			return fail("the token of a %s is valid for %s, not for 5m to 1h", r.Method, r.Remaining)
		}
		if r.Method == http.MethodGet {
			read = true
		} else {
			upload, written = r, true
		}
	}
	if !written || !read {
		return fail("Cloud Storage has no record of an upload and a download with a token: %+v", records)
	}
	return upload, nil
}

// requestWithoutToken returns Cloud Storage's answer to a request without a token. Any
// answer but a refusal is an error.
func requestWithoutToken(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/storage/v1/b/"+bucket+"/o/"+object, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || response.StatusCode != http.StatusUnauthorized {
		return "", fmt.Errorf("the proof failed: without a token Cloud Storage answered %s %s", response.Status, body)
	}
	sentence, _, _ := strings.Cut(answer.Error.Message, ". ")
	return response.Status + ": " + sentence, nil
}

func (p *proof) print(out io.Writer) {
	fmt.Fprintln(out, "\nA program with Google's own library and no key wrote an object and read it back:")
	fmt.Fprintln(out)
	for _, line := range [][2]string{
		{"KSA", p.upload.KSA},
		{"federated as", p.upload.Through[0]},
		{"GSA", strings.TrimPrefix(p.upload.Principal, "serviceAccount:")},
		{"object", fmt.Sprintf("gs://%s/%s, %d bytes", p.upload.Bucket, p.upload.Object, p.size)},
		{"SHA-256", p.sum + ", the same when read back"},
		{"token", fmt.Sprintf("is valid for %s", p.upload.Remaining.Truncate(time.Second))},
		{"without token", p.anonymous},
	} {
		fmt.Fprintf(out, "  %-14s %s\n", line[0], line[1])
	}
}
