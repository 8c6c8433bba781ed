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

// uploaded is what the uploader says of its work.
type uploaded struct {
	Bytes   int    `json:"bytes"`
	Written string `json:"written"` // SHA-256
	Read    string `json:"read"`    // SHA-256
}

// upload writes an object and reads it back. It is any program that uses Cloud
// Storage: it has no setting but the environment, and knows nothing of the demo.
func upload(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: demo upload BUCKET OBJECT")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := storage.NewClient(ctx)
	if err != nil {
		return fmt.Errorf("%w; GCE_METADATA_HOST has to name a metadata server", err)
	}
	defer client.Close()
	object := client.Bucket(args[0]).Object(args[1])

	// Another text each time, so that what is read is what was written now.
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
	back, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return json.NewEncoder(out).Encode(uploaded{Bytes: len(content), Written: sum([]byte(content)), Read: sum(back)})
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}
