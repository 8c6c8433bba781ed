package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain also runs the uploader: the demo starts its own executable.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "upload" {
		if err := command(context.Background(), os.Args[1:], os.Getenv, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// buildEmulator builds the product from this repository.
func buildEmulator(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "gke-metadata-emulator")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/gke-metadata-emulator")
	build.Dir = filepath.Join("..", "..")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return binary
}

// outputBuffer is the demo's output, readable while the demo writes.
type outputBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *outputBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *outputBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestShow_ProvesIdentity(t *testing.T) {
	binary := buildEmulator(t)
	wrapper := func(t *testing.T, script string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "emulator")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+strings.ReplaceAll(script, "EMULATOR", binary)), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}

	t.Run("oneshot", func(t *testing.T) {
		var out outputBuffer
		if err := show(t.Context(), settings{binary: binary, oneshot: true}, &out); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		for _, line := range []string{
			`KSA            default/default`,
			`federated as   principal://iam\.googleapis\.com/\S+:default:default`,
			`GSA            demo@demo-project\.iam\.gserviceaccount\.com`,
			`object         gs://demo-bucket/hello\.txt, \d+ bytes`,
			`SHA-256        [0-9a-f]{64}, the same when read back`,
			`token          is valid for (59m\d+s|5[0-8]m\d+s)`,
			`without token  401 Unauthorized: Anonymous caller`,
		} {
			if !regexp.MustCompile("(?m)^  " + line).MatchString(out.String()) {
				t.Errorf("no line %q in\n%s", line, &out)
			}
		}
		if strings.Contains(out.String(), "ya29.") {
			t.Error("the output contains a token")
		}
	})

	t.Run("another identity", func(t *testing.T) {
		s := settings{binary: wrapper(t, `exec EMULATOR "$@" --service-account other`), oneshot: true}
		if err := show(t.Context(), s, new(outputBuffer)); err == nil || !strings.Contains(err.Error(), `the KSA of a POST is "default/other", not "default/default"`) {
			t.Errorf("error %v", err)
		}
	})

	t.Run("emulator that ends", func(t *testing.T) {
		s := settings{binary: wrapper(t, `echo no luck; exit 3`), oneshot: true}
		if err := show(t.Context(), s, new(outputBuffer)); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "  | no luck") {
			t.Errorf("error %v", err)
		}
	})

	t.Run("stays up", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:8080")
		if err == nil { // else another process uses the port already
			defer listener.Close()
		}
		ctx, interrupt := context.WithCancel(t.Context())
		var out outputBuffer
		ended := make(chan error)
		go func() { ended <- show(ctx, settings{binary: binary}, &out) }()
		for tick := time.Tick(20 * time.Millisecond); !strings.Contains(out.String(), "Requests to Cloud Storage"); <-tick {
			select {
			case err := <-ended:
				t.Fatalf("ended: %v\n%s", err, &out)
			default:
			}
		}
		address := regexp.MustCompile(`127\.0\.0\.1:8080 is in use; the metadata server is at (127\.0\.0\.1:\d+)\.`).FindStringSubmatch(out.String())
		if address == nil || strings.Count(out.String(), "GCE_METADATA_HOST="+address[1]+" ") != 2 {
			t.Errorf("the commands name another port:\n%s", &out)
		}
		command := regexp.MustCompile(`(?m)^TOKEN=.*\n^curl.*$`).FindString(out.String())
		if text, err := exec.CommandContext(ctx, "sh", "-c", command).Output(); err != nil || !strings.Contains(string(text), "without a key") {
			t.Errorf("%s\nprinted %q: %v", command, text, err)
		}
		interrupt()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if conn, err := net.Dial("tcp", address[1]); err == nil {
			t.Error("the emulator still listens after the demo has ended", conn.Close())
		}
	})
}
