// Command gcs-upload writes objects to a bucket, reads them back, and creates signed
// URLs, like a Deployment in GKE with Workload Identity. It has no key, and its only
// setting for Google is the bucket's name.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"cloud.google.com/go/storage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("gcs-upload ends", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	bucket := flag.String("bucket", "", "name of the bucket")
	interval := flag.Duration("every", time.Minute, "time between two rounds")
	listen := flag.String("listen", ":8080", "address of the endpoint /ready")
	flag.Parse()
	if *bucket == "" || flag.NArg() > 0 {
		return fmt.Errorf("usage: gcs-upload --bucket=BUCKET [--every=DURATION] [--listen=ADDRESS]")
	}
	folder, err := os.Hostname() // the pod's name, so each pod has its own folder
	if err != nil {
		return err
	}
	client, err := storage.NewClient(ctx)
	if err != nil {
		return err
	}
	defer client.Close()

	var ready atomic.Bool
	server := &http.Server{Addr: *listen, ReadHeaderTimeout: 5 * time.Second, Handler: readiness(&ready)}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	defer server.Close()

	r := rounds{bucket: client.Bucket(*bucket), folder: "go/" + folder}
	for {
		err := r.once(ctx)
		ready.Store(err == nil)
		delay := *interval
		if err != nil && ctx.Err() == nil {
			slog.Error("round failed", "error", err)
			delay = min(delay, 5*time.Second)
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		}
	}
}

// readiness answers 200 if the last round succeeded.
func readiness(ready *atomic.Bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" || !ready.Load() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
}
