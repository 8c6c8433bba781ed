package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"gke-metadata-emulator/integration/gcs"
)

const bucket = "demo-bucket"

// cloudStorage is the fake Cloud Storage in this process.
type cloudStorage struct {
	*gcs.Server
	proxy    *gcs.Proxy
	url      string // plain HTTP
	proxyURL string // of the proxy that answers for https://storage.googleapis.com
	caFile   string // the CA certificate for clients of the proxy
}

// newStorage returns a fake Cloud Storage that accepts the fake Google's tokens.
func newStorage(folder string, a addresses, log *slog.Logger) (*cloudStorage, error) {
	server, err := gcs.New(gcs.Options{Fake: "http://" + a.fake, Log: log})
	if err != nil {
		return nil, err
	}
	server.CreateBucket(bucket)
	proxy, err := gcs.NewProxy(server, log)
	if err != nil {
		return nil, err
	}
	s := &cloudStorage{
		Server:   server,
		proxy:    proxy,
		url:      "http://" + a.storage.Addr().String(),
		proxyURL: "http://" + a.proxy.Addr().String(),
		caFile:   filepath.Join(folder, "ca.pem"),
	}
	return s, os.WriteFile(s.caFile, proxy.CA(), 0o644)
}

// serve serves Cloud Storage and the proxy until ctx ends.
func (s *cloudStorage) serve(ctx context.Context, g *errgroup.Group, a addresses) {
	g.Go(func() error { return s.Serve(ctx, a.storage) })
	g.Go(func() error { return s.proxy.Serve(ctx, a.proxy) })
}
