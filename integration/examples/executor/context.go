package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"cloud.google.com/go/storage"
)

// maxContext is how large a context may be, uncompressed: it is kept in memory.
const maxContext = 64 << 20

// file is one of the context.
type file struct {
	content []byte
	mode    int64
}

// fetch gets the files of a context by their paths.
func fetch(ctx context.Context, source string) (map[string]file, error) {
	bucket, object, ok := strings.Cut(strings.TrimPrefix(source, "gs://"), "/")
	if !ok || !strings.HasPrefix(source, "gs://") {
		return nil, fmt.Errorf("%q is not gs://BUCKET/FILE", source)
	}
	client, err := storage.NewClient(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	reader, err := client.Bucket(bucket).Object(object).NewReader(ctx)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	plain, err := gzip.NewReader(reader)
	if err != nil {
		return nil, err
	}
	files := map[string]file{}
	archive := tar.NewReader(io.LimitReader(plain, maxContext))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		var content bytes.Buffer
		if _, err := io.Copy(&content, archive); err != nil {
			return nil, err
		}
		files[path.Clean(header.Name)] = file{content.Bytes(), header.Mode & 0o777}
	}
}
