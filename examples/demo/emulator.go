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

// emulator is a process of the product.
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
	defer log.Close() // the child has its own descriptor
	// Not the user's environment, which can contain settings of the emulator.
	env := []string{"HOME=" + folder, "TMPDIR=" + folder}
	c, err := startChild(ctx, env, log, log, binary,
		"standalone", "--listen", a.metadata, "--admin-listen", a.admin, "--fake-listen", a.fake)
	if err != nil {
		return nil, err
	}
	return &emulator{c, logFile}, nil
}

// startupTimeout is far longer than a start, even on a busy machine.
const startupTimeout = 30 * time.Second

// waitReady waits until the emulator's readiness endpoint answers 200.
func (e *emulator) waitReady(ctx context.Context, admin string) error {
	ctx, cancel := context.WithTimeout(ctx, startupTimeout)
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
			return e.unexpectedEnd()
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

// maxLogLines is the number of lines of the emulator's log in an error.
const maxLogLines = 20

// withLog adds the end of the emulator's log to err.
func (e *emulator) withLog(err error) error {
	content, readErr := os.ReadFile(e.logFile)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	lines = lines[max(0, len(lines)-maxLogLines):]
	return fmt.Errorf("%w\nthe end of the emulator's log:\n  | %s", err, strings.Join(lines, "\n  | "))
}
