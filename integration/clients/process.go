package clients

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gke-metadata-emulator/integration/internal/standintest"
)

// clientTime bounds whatever a client does at a time, its retries included.
const clientTime = 2 * time.Minute

// mounts makes the file system of a pod in a mount namespace of the program's own.
const mounts = `set -e
/bin/mount --bind "$0/hosts" /etc/hosts
/bin/mount --bind "$0/resolv.conf" /etc/resolv.conf
if [ -e /sys/class/dmi/id/product_name ]; then /bin/mount --bind "$0/product_name" /sys/class/dmi/id/product_name; fi
exec "$@"`

// process is a client that runs in a sandbox.
type process struct {
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr standintest.Log
	ended  chan struct{}
	err    error // how it ended, after ended
}

// environment is the complete environment of a client: an empty home, a PATH for other
// programs, which is mostly empty, and the variables that make it trust the stand-ins' CA.
// No variable contains the address of the metadata server.
func (s *sandbox) environment(t testing.TB, path string) []string {
	home, ca := t.TempDir(), s.file("ca.pem")
	return []string{
		"PATH=" + path, "LANG=C.UTF-8", "HOME=" + home, "TMPDIR=" + home, "CLOUDSDK_CONFIG=" + home + "/gcloud",
		"SSL_CERT_FILE=" + ca, "REQUESTS_CA_BUNDLE=" + ca, "NODE_EXTRA_CA_CERTS=" + ca, "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE=" + ca,
	}
}

// start starts a client. It ends with the test, and with this process, however
// that ends.
func (s *sandbox) start(t testing.TB, env []string, program ...string) (*process, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", mounts, s.folder}, program...)...)
	cmd.Env, cmd.Dir = env, s.folder
	cmd.SysProcAttr = ownMounts()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	p := &process{ended: make(chan struct{})}
	cmd.Stderr = &p.stderr
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		cancel()
		return nil, err
	}
	output, input := io.Pipe()
	cmd.Stdout, p.stdout = input, bufio.NewReader(output)
	started := make(chan error)
	go func() {
		// To the kernel the parent is the thread that starts the process, so that
		// thread has to live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		back, err := s.enter()
		if err == nil {
			err = errors.Join(cmd.Start(), back())
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		_ = input.Close()
	}()
	if err := <-started; err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", program[0], err)
	}
	t.Cleanup(func() {
		cancel()
		_ = output.Close()
		<-p.ended
	})
	return p, nil
}

// run runs a program to its end and returns its standard output.
func (s *sandbox) run(t testing.TB, env []string, program ...string) (string, error) {
	p, err := s.start(t, env, program...)
	if err != nil {
		return "", err
	}
	_ = p.stdin.Close()
	var output []byte
	read := make(chan struct{})
	go func() {
		defer close(read)
		output, _ = io.ReadAll(p.stdout)
	}()
	select {
	case <-read:
		<-p.ended
	case <-time.After(clientTime):
		return "", fmt.Errorf("%s: did not end within %s\n%s", strings.Join(program, " "), clientTime, p.said())
	}
	if p.err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(program, " "), p.err, p.said())
	}
	return strings.TrimSpace(string(output)), nil
}

// ask sends a line to one of the programs of this folder and returns its answer.
func (p *process) ask(command ...string) (string, error) {
	type result struct {
		line []byte
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		_, err := fmt.Fprintln(p.stdin, strings.Join(command, " "))
		if err != nil {
			answered <- result{nil, err}
			return
		}
		line, err := p.stdout.ReadBytes('\n')
		answered <- result{line, err}
	}()
	var r result
	select {
	case r = <-answered:
	case <-time.After(clientTime):
		r.err = fmt.Errorf("no answer within %s", clientTime)
	}
	var answer struct {
		Value string `json:"value"`
		Error string `json:"error"`
	}
	if r.err == nil {
		r.err = json.Unmarshal(r.line, &answer)
	}
	if r.err == nil && answer.Error != "" {
		r.err = errors.New(answer.Error)
	}
	if r.err != nil {
		return "", fmt.Errorf("%s: %w\n%s", command[0], r.err, p.said())
	}
	return answer.Value, nil
}

var secrets = regexp.MustCompile(`ya29\.[\w.-]+|eyJ[\w.-]+`)

// said is the standard error of the client, without tokens.
func (p *process) said() string { return secrets.ReplaceAllString(p.stderr.String(), "TOKEN") }

// without returns the lines of a log that do not contain part, without tokens.
func without(log *standintest.Log, part string) string {
	lines := strings.Split(log.String(), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, part) })
	return secrets.ReplaceAllString(strings.Join(lines, "\n"), "TOKEN")
}
