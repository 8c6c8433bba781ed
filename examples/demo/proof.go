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

// Who the uploader has to be: what standalone says without further settings.
const (
	wantKSA       = "default/default"
	wantFederated = "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/demo-pool/subject/system:serviceaccount:default:default"
	wantGSA       = "serviceAccount:demo@demo-project.iam.gserviceaccount.com"
)

// proof is what Cloud Storage saw.
type proof struct {
	wrote     gcs.Record
	size      int
	sum       string
	anonymous string // what it answers without a token
}

// prove lets the uploader work and checks what came of it.
func prove(ctx context.Context, folder string, a addresses, s *cloudStorage) (*proof, error) {
	result, err := runUploader(ctx, folder, object, a, s)
	if err != nil {
		return nil, err
	}
	wrote, err := check(result, s.Records())
	if err != nil {
		return nil, err
	}
	refused, err := withoutToken(ctx, s.url)
	if err != nil {
		return nil, err
	}
	return &proof{wrote: wrote, size: result.Bytes, sum: result.Written, anonymous: refused}, nil
}

// check returns the record of the upload if all is as it has to be.
func check(result uploaded, records []gcs.Record) (gcs.Record, error) {
	var wrote gcs.Record
	fail := func(format string, args ...any) (gcs.Record, error) {
		return wrote, fmt.Errorf("the proof failed: "+format, args...)
	}
	if result.Bytes == 0 || result.Read != result.Written {
		return fail("%d bytes with SHA-256 %s were written, and read back with %s", result.Bytes, result.Written, result.Read)
	}
	var written, read bool
	for _, r := range records {
		if r.Bucket != bucket || r.Object != object || r.Status != http.StatusOK {
			return fail("%s gs://%s/%s was answered %d", r.Method, r.Bucket, r.Object, r.Status)
		}
		for _, c := range []struct{ what, got, want string }{
			{"principal", r.Principal, wantGSA},
			{"KSA", r.KSA, wantKSA},
			{"way to it", strings.Join(r.Through, ", "), wantFederated},
		} {
			if c.got != c.want {
				return fail("the %s of a %s is %q, not %q", c.what, r.Method, c.got, c.want)
			}
		}
		if r.Remaining < 5*time.Minute || r.Remaining > time.Hour {
			return fail("the token of a %s has %s to live, not between 5m and 1h", r.Method, r.Remaining)
		}
		if r.Method == http.MethodGet {
			read = true
		} else {
			wrote, written = r, true
		}
	}
	if !written || !read {
		return fail("Cloud Storage saw no upload and no download with a token: %+v", records)
	}
	return wrote, nil
}

// withoutToken returns what Cloud Storage answers to those who have no token,
// which has to be a refusal.
func withoutToken(ctx context.Context, url string) (string, error) {
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
	fmt.Fprintln(out, "\nA program without a key, with Google's own library, wrote an object and read it back:")
	fmt.Fprintln(out)
	for _, line := range [][2]string{
		{"KSA", p.wrote.KSA},
		{"federated as", p.wrote.Through[0]},
		{"GSA", strings.TrimPrefix(p.wrote.Principal, "serviceAccount:")},
		{"object", fmt.Sprintf("gs://%s/%s, %d bytes", p.wrote.Bucket, p.wrote.Object, p.size)},
		{"SHA-256", p.sum + ", the same when read back"},
		{"token", fmt.Sprintf("has %s to live", p.wrote.Remaining.Truncate(time.Second))},
		{"without token", p.anonymous},
	} {
		fmt.Fprintf(out, "  %-14s %s\n", line[0], line[1])
	}
}
