package examples

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"gke-metadata-emulator/integration/internal/process"
)

// runningDaemon is the product's program.
type runningDaemon struct {
	address string
	log     string // file
}

func (d *runningDaemon) logged(t *testing.T) string {
	t.Helper()
	log, err := os.ReadFile(d.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

// listeningAt matches the line of the log with the addresses that the kernel chose.
var listeningAt = regexp.MustCompile(`msg=serving .*listen=(\S+) admin=(\S+)`)

// serve starts a daemon until the test ends, and waits until it is ready.
func (s *shop) serve(t *testing.T, environment []string, flags ...string) *runningDaemon {
	t.Helper()
	d := &runningDaemon{log: filepath.Join(t.TempDir(), "log")}
	cmd := exec.Command(s.program, append([]string{
		"serve", "--node-name=" + shopNode, "--kubeconfig=" + s.cluster.Kubeconfig(), "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0",
		"--routing=none", "--attestation=ip", "--prefetch=false", "--identity-wait=15s",
		"--project-id=" + ProjectID, "--project-number=" + ProjectNumber, "--cluster-name=cluster-1", "--cluster-location=europe-west1",
	}, flags...)...)
	cmd.Env = environment
	p, err := process.Start("gke-metadata-emulator", d.log, cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), busyWithin)
	defer cancel()
	if err := p.Ready(ctx, func(ctx context.Context) error {
		log, err := os.ReadFile(d.log)
		if err != nil {
			return err
		}
		listening := listeningAt.FindSubmatch(log)
		if listening == nil {
			return errors.New("it does not listen yet")
		}
		d.address = string(listening[1])
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(listening[2])+"/readyz", nil)
		if err != nil {
			return err
		}
		_, err = read(http.DefaultClient, request)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return d
}

// read returns the body of an answer. Any status except 200 is an error with the body.
func read(client *http.Client, request *http.Request) (string, error) {
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s\n%s", response.Status, body)
	}
	return string(body), err
}
