package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"cloud.google.com/go/storage"
)

// uploadResult is the output of the uploader.
type uploadResult struct {
	Bytes   int    `json:"bytes"`
	Written string `json:"written"` // SHA-256
	Read    string `json:"read"`    // SHA-256
}

// upload writes an object and reads it back, like any program that uses Cloud Storage:
// it has no setting but the environment, and must not know the demo.
func upload(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: demo upload BUCKET OBJECT")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := storage.NewClient(ctx)
	if err != nil {
		return fmt.Errorf("%w; set GCE_METADATA_HOST to a metadata server", err)
	}
	defer client.Close()
	object := client.Bucket(args[0]).Object(args[1])

	// The text is different each time: an object of an earlier run does not pass.
	content := fmt.Sprintf("Process %d wrote this on %s, without a key.\n%s\n", os.Getpid(), time.Now().UTC().Format(time.RFC1123), rand.Text())
	w := object.NewWriter(ctx)
	w.ContentType = "text/plain"
	_, err = io.WriteString(w, content)
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	r, err := object.NewReader(ctx)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	read, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return json.NewEncoder(out).Encode(uploadResult{Bytes: len(content), Written: sum([]byte(content)), Read: sum(read)})
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}
