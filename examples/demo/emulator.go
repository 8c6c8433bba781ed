package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// emulator is the product, as a process.
type emulator struct {
	*child
	logFile string
}

func startEmulator(ctx context.Context, binary, folder string, a addresses) (*emulator, error) {
	logFile := filepath.Join(folder, "emulator.log")
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	// Nothing of the caller's environment: it could be settings of the emulator's.
	env := []string{"HOME=" + folder, "TMPDIR=" + folder}
	c, err := startChild(ctx, env, log, log, binary,
		"standalone", "--listen", a.metadata, "--admin-listen", a.admin, "--fake-listen", a.fake)
	if err != nil {
		return nil, err
	}
	return &emulator{c, logFile}, nil
}

// startupTime is far more than a start takes, also on a busy machine.
const startupTime = 30 * time.Second

// ready returns when the emulator says that it is, at its readiness endpoint.
func (e *emulator) ready(ctx context.Context, admin string) error {
	ctx, cancel := context.WithTimeout(ctx, startupTime)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := probe(ctx, client, "http://"+admin+"/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-e.done:
			return e.ended()
		case <-ctx.Done():
			return fmt.Errorf("the emulator is not ready: %w", errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

func probe(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// shownLines is how much of the emulator's log an error shows.
const shownLines = 20

// failed adds the end of the emulator's log to err.
func (e *emulator) failed(err error) error {
	content, reading := os.ReadFile(e.logFile)
	if reading != nil {
		return errors.Join(err, reading)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	lines = lines[max(0, len(lines)-shownLines):]
	return fmt.Errorf("%w\nthe end of its log:\n  | %s", err, strings.Join(lines, "\n  | "))
}
