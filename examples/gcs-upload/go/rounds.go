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

	roundWithin = 5 * time.Minute
	urlLife     = 15 * time.Minute
)

// rounds are what is done again and again.
type rounds struct {
	bucket *storage.BucketHandle
	folder string // in the bucket
}

// once writes, lists, reads back and shares two objects.
func (r rounds) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundWithin)
	defer cancel()
	for _, size := range []int{small, large} {
		name := fmt.Sprintf("%s/%d", r.folder, size)
		if err := r.object(ctx, name, size); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	slog.Info("round done", "bucket", r.bucket.BucketName())
	return nil
}

func (r rounds) object(ctx context.Context, name string, size int) error {
	content := make([]byte, size)
	rand.Read(content) // never fails
	if err := r.write(ctx, name, content); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := r.find(ctx, name, size); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	read, err := r.bucket.Object(name).NewReader(ctx)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := same(read, content); err != nil {
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
			return fmt.Errorf("%s is not there", name)
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

// share makes a URL that anybody can use, and uses it without credentials. There
// is no key here to sign it with: the library asks the metadata server for the
// account's address, and IAM to sign in its name.
func (r rounds) share(ctx context.Context, name string, content []byte) error {
	url, err := r.bucket.SignedURL(name, &storage.SignedURLOptions{
		Scheme: storage.SigningSchemeV4, Method: http.MethodGet, Expires: time.Now().Add(urlLife),
	})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return errors.New("the URL cannot be parsed") // it is a secret: not in the log
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return errors.Unwrap(err) // without the URL
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		said, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return errors.Join(fmt.Errorf("%s: %s", response.Status, said), err)
	}
	return same(response.Body, content)
}

// same closes what it reads.
func same(read io.ReadCloser, content []byte) error {
	got, err := io.ReadAll(read)
	if err := errors.Join(err, read.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, content) {
		return fmt.Errorf("%d bytes, and not those %d that were written", len(got), len(content))
	}
	return nil
}
