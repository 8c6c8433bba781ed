package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// uploadTime includes the retries of Google's library.
const uploadTime = 45 * time.Second

// runUploader runs this program as the uploader, with an environment made from
// nothing.
func runUploader(ctx context.Context, folder, object string, a addresses, s *cloudStorage) (uploaded, error) {
	var result uploaded
	ctx, cancel := context.WithTimeout(ctx, uploadTime)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return result, err
	}
	home := filepath.Join(folder, "home") // without credentials of gcloud's
	if err := os.Mkdir(home, 0o700); err != nil {
		return result, err
	}
	var out, problems bytes.Buffer
	env := append(clientEnvironment(a, s), "HOME="+home, "NO_PROXY=127.0.0.1,localhost")
	c, err := startChild(ctx, env, &out, &problems, self, "upload", bucket, object)
	if err != nil {
		return result, err
	}
	if err := c.wait(); err != nil {
		return result, fmt.Errorf("the uploader failed: %w: %s", err, strings.TrimSpace(problems.String()))
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		return result, fmt.Errorf("the uploader said %q: %w", out.String(), err)
	}
	return result, nil
}

// clientEnvironment is all that makes a program use the emulator and the stand-in
// for Cloud Storage.
func clientEnvironment(a addresses, s *cloudStorage) []string {
	return []string{"GCE_METADATA_HOST=" + a.metadata, "HTTPS_PROXY=" + s.proxyURL, "SSL_CERT_FILE=" + s.caFile}
}
