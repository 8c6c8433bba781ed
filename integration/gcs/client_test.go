package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/storage"
)

// Set in the process that is Google's client: how large the object is.
const clientSize = "GCS_TEST_CLIENT_SIZE"

func TestMain(m *testing.M) {
	if size := os.Getenv(clientSize); size != "" {
		if err := beClient(size); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// beClient writes an object and reads it back, configured only by its environment. It is a
// separate process, because the standard library reads the proxy and the trusted
// certificates once.
func beClient(size string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // 64 MiB take long on a busy machine
	defer cancel()
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	content := bytes.Repeat([]byte("wine"), n/4)
	client, err := storage.NewClient(ctx)
	if err != nil {
		return err
	}
	object := client.Bucket(testBucket).Object("dir/wine & water.bin")
	w := object.NewWriter(ctx)
	if n < w.ChunkSize { // 16 MiB, of which many would be needed
		w.ChunkSize = 256 << 10
	}
	if _, err := w.Write(content); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	r, err := object.NewReader(ctx)
	if err != nil {
		return err
	}
	back, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(back, content) {
		return fmt.Errorf("wrote %d bytes, read %d others", len(content), len(back))
	}
	return errors.Join(r.Close(), client.Close())
}

// runClient runs Google's client with a minimal environment. Its token comes from a metadata
// server.
func (b *bench) runClient(size int, token string, more ...string) (string, error) {
	b.t.Helper()
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		if !strings.HasSuffix(r.URL.Path, "/token") {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"expires_in":3599,"token_type":"Bearer"}`, token)
	}))
	defer metadata.Close()
	home := b.t.TempDir()
	ca := filepath.Join(home, "ca.pem")
	if err := os.WriteFile(ca, b.CA, 0o600); err != nil {
		b.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	client := exec.CommandContext(b.t.Context(), self)
	client.Env = append([]string{
		clientSize + "=" + strconv.Itoa(size), "HOME=" + home,
		"GCE_METADATA_HOST=" + strings.TrimPrefix(metadata.URL, "http://"),
		"HTTPS_PROXY=" + b.ProxyURL, "SSL_CERT_FILE=" + ca,
	}, more...)
	output, err := client.CombinedOutput()
	return string(output), err
}

func TestProxy_ServesTheRealClient(t *testing.T) {
	b := newBench(t, nil)
	token := b.token(cloudPlatform)
	const chunk = 256 << 10
	for _, test := range []struct {
		name   string
		size   int
		writes int // requests; a resumable upload has one more, to begin
	}{
		{"at once", 16, 1},
		{"in chunks", 4*chunk + 400, 6},
		{"64 MiB in the library's chunks", 64 << 20, 6},
		{"nothing", 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(b.Records())
			if output, err := b.runClient(test.size, token); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			writes, reads := 0, 0
			for _, r := range b.Records()[before:] {
				if r.Principal != "serviceAccount:"+testGSA || r.KSA != "shop/cart" || r.Bucket != testBucket ||
					r.Object != "dir/wine & water.bin" || r.Status != http.StatusOK {
					t.Errorf("record %+v", r)
				}
				if r.Method == http.MethodGet {
					reads++
				} else {
					writes++
				}
			}
			if writes != test.writes || reads != 1 {
				t.Errorf("%d writes and %d reads, want %d and 1", writes, reads, test.writes)
			}
		})
	}
}

func TestProxy_ClientWithInvalidTokenFails(t *testing.T) {
	b := newBench(t, nil)
	for token, want := range map[string]string{
		"ya29.garbage":                         "Error 401: Invalid Credentials, authError",
		b.token(auth + "userinfo.email"):       "Error 403: Provided scope(s) are not authorized, forbidden",
		b.token(auth + "devstorage.read_only"): "Error 403: Provided scope(s) are not authorized, forbidden",
	} {
		if output, err := b.runClient(16, token); err == nil || !strings.Contains(output, want) {
			t.Errorf("%v: %s, want %s", err, output, want)
		}
	}
}

// Why there is a proxy: with the usual setting for emulators the Go client has a
// token at hand and does not send it.
func TestEmulatorHost_ClientSendsNoToken(t *testing.T) {
	b := newBench(t, nil)
	output, err := b.runClient(16, b.token(cloudPlatform), "STORAGE_EMULATOR_HOST="+b.URL)
	if err == nil || !strings.Contains(output, "Error 401: Anonymous caller does not have") {
		t.Errorf("%v: %s", err, output)
	}
}
