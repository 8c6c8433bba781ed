package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/internal/checkout"
)

// program is a server in a separate process.
type program struct {
	address string // of the measured endpoint
	metrics string // URL of its own metrics
	pid     int
}

// buildProgram builds a command of the module in folder as the product is built.
func buildProgram(t testing.TB, folder, pkg string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if err := checkout.Build(t.Context(), file, folder, pkg, "grpcnotrace"); err != nil {
		t.Fatal(err)
	}
	return file
}

// startFloor starts a floor, which returns the recorded response for every request.
func startFloor(t testing.TB, binary string, recorded []byte, args ...string) *program {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Stdin = bytes.NewReader(recorded)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	addresses := strings.Fields(line)
	if err != nil || len(addresses) != 2 {
		t.Fatalf("the floor printed %q: %v", line, err)
	}
	return &program{address: addresses[0], metrics: "http://" + addresses[1], pid: cmd.Process.Pid}
}

// startDaemon starts the product and returns when it logs "serving".
func startDaemon(t testing.TB, binary string, args ...string) *program {
	t.Helper()
	cmd := exec.Command(binary, args...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	var output strings.Builder
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		output.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "msg=serving") {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return &program{address: field(lines.Text(), " listen="), metrics: "http://" + field(lines.Text(), " admin=") + "/metrics", pid: cmd.Process.Pid}
		}
	}
	t.Fatalf("%s ended: %s", binary, output.String())
	return nil
}

func field(line, name string) string {
	_, rest, _ := strings.Cut(line, name)
	value, _, _ := strings.Cut(rest, " ")
	return value
}

func start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// clockTick is USER_HZ, which is 100 on all architectures that Go runs on; see
// proc(5).
const clockTick = 10 * time.Millisecond

// cpu is the process's user and system time, in steps of 10 ms.
func (p *program) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0, err
	}
	// The name, which can contain spaces, is in parentheses; utime and stime are the
	// 14th and 15th field.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", p.pid, stat)
	}
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * clockTick, errors.Join(err, err2)
}

// metric returns the sum of a counter or a gauge over all its labels.
func (p *program) metric(ctx context.Context, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	sum, found := 0.0, false
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		if metric, _, _ := strings.Cut(series, "{"); metric != name {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("%s has no %s", p.metrics, name)
	}
	return sum, lines.Err()
}
