package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"
)

const (
	small = 1 << 10  // one request
	large = 64 << 20 // a resumable upload in chunks of 16 MiB, the library's default

	roundTimeout = 5 * time.Minute
	urlLifetime  = 15 * time.Minute
)

// rounds is the work that the program repeats.
type rounds struct {
	bucket *storage.BucketHandle
	folder string // in the bucket
}

// once writes, lists, reads back and shares two objects.
func (r rounds) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	for _, size := range []int{small, large} {
		name := fmt.Sprintf("%s/%d", r.folder, size)
		if err := r.checkObject(ctx, name, size); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	slog.Info("round done", "bucket", r.bucket.BucketName())
	return nil
}

// checkObject writes, lists, reads back and shares one object.
func (r rounds) checkObject(ctx context.Context, name string, size int) error {
	content := make([]byte, size)
	rand.Read(content) // never fails
	if err := r.write(ctx, name, content); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := r.find(ctx, name, size); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	object, err := r.bucket.Object(name).NewReader(ctx)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := compare(object, content); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := r.share(ctx, name, content); err != nil {
		return fmt.Errorf("signed URL: %w", err)
	}
	slog.Info("written, listed, read back and fetched by signed URL",
		"object", name, "bytes", size, "sha256", fmt.Sprintf("%x", sha256.Sum256(content)))
	return nil
}

func (r rounds) write(ctx context.Context, name string, content []byte) error {
	w := r.bucket.Object(name).NewWriter(ctx)
	w.ContentType = "application/octet-stream"
	_, err := w.Write(content)
	return errors.Join(err, w.Close())
}

func (r rounds) find(ctx context.Context, name string, size int) error {
	objects := r.bucket.Objects(ctx, &storage.Query{Prefix: r.folder + "/"})
	for {
		found, err := objects.Next()
		if errors.Is(err, iterator.Done) {
			return fmt.Errorf("%s is not listed", name)
		}
		if err != nil {
			return err
		}
		if found.Name == name {
			if found.Size != int64(size) {
				return fmt.Errorf("%s has %d bytes, want %d", name, found.Size, size)
			}
			return nil
		}
	}
}

// share creates a URL that needs no credentials, and uses it. The program has no key to
// sign it: the library requests the account's address from the metadata server, and a
// signature of that account from IAM.
func (r rounds) share(ctx context.Context, name string, content []byte) error {
	url, err := r.bucket.SignedURL(name, &storage.SignedURLOptions{
		Scheme: storage.SigningSchemeV4, Method: http.MethodGet, Expires: time.Now().Add(urlLifetime),
	})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return errors.New("the URL cannot be parsed") // without the URL, which is a secret
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return errors.Unwrap(err) // without the URL
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return errors.Join(fmt.Errorf("%s: %s", response.Status, body), err)
	}
	return compare(response.Body, content)
}

// compare reads and closes r, and returns an error if it does not have the content.
func compare(r io.ReadCloser, content []byte) error {
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, content) {
		return fmt.Errorf("got %d bytes that differ from the %d written bytes", len(got), len(content))
	}
	return nil
}
