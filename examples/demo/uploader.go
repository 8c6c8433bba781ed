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

// uploadTimeout includes the retries of Google's library.
const uploadTimeout = 45 * time.Second

// runUploader runs this program as the uploader, with only the environment that it
// needs.
func runUploader(ctx context.Context, folder, object string, a addresses, s *cloudStorage) (uploadResult, error) {
	var result uploadResult
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return result, err
	}
	home := filepath.Join(folder, "home") // without gcloud's credentials
	if err := os.Mkdir(home, 0o700); err != nil {
		return result, err
	}
	var stdout, stderr bytes.Buffer
	env := append(clientEnvironment(a, s), "HOME="+home, "NO_PROXY=127.0.0.1,localhost")
	c, err := startChild(ctx, env, &stdout, &stderr, self, "upload", bucket, object)
	if err != nil {
		return result, err
	}
	if err := c.wait(); err != nil {
		return result, fmt.Errorf("the uploader failed: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		return result, fmt.Errorf("the uploader printed %q: %w", stdout.String(), err)
	}
	return result, nil
}

// clientEnvironment returns the environment with which a program uses the emulator and
// the fake Cloud Storage.
func clientEnvironment(a addresses, s *cloudStorage) []string {
	return []string{"GCE_METADATA_HOST=" + a.metadata, "HTTPS_PROXY=" + s.proxyURL, "SSL_CERT_FILE=" + s.caFile}
}
