package podtest

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv is the environment variable that makes a test binary a process of a pod.
const childEnv = "GME_PODTEST_PROCESS"

// Main runs the process of a pod and exits, if [Cgroup.Start] has started the test
// binary as one; else it does nothing. A TestMain calls it first.
func Main() {
	if os.Getenv(childEnv) == "" {
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := execute(strings.Fields(lines.Text()))
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Println(answer)
	}
	os.Exit(0)
}

// execute executes a command of [Process.ask].
func execute(words []string) (string, error) {
	switch words[0] {
	case "connect":
		return connect(words[1], words[2], words[3])
	case "forge":
		return forge(words[1], words[2])
	case "send", "close":
		fd, err := strconv.Atoi(words[1])
		if err != nil {
			return "", err
		}
		if words[0] == "close" {
			return "ok", unix.Close(fd)
		}
		_, err = unix.Write(fd, []byte(words[2]))
		return "ok", err
	case "read":
		fd, err := strconv.Atoi(words[1])
		if err != nil {
			return "", err
		}
		b := make([]byte, 64)
		n, err := unix.Read(fd, b)
		return string(b[:max(n, 0)]), err
	}
	return "", fmt.Errorf("unknown command %q", words)
}

// connect opens a socket of a family and connects it. An IPv6 socket connects to an
// IPv4 address by its mapped form, as Java and .NET do.
func connect(family, source, destination string) (string, error) {
	address, err := netip.ParseAddrPort(destination)
	if err != nil {
		return "", err
	}
	domain, protocol := unix.AF_INET, 0
	switch family {
	case "6":
		domain = unix.AF_INET6
	case "multipath":
		protocol = unix.IPPROTO_MPTCP
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM, protocol)
	if err != nil {
		return "", err
	}
	if source != "-" {
		local, err := netip.ParseAddrPort(source)
		if err != nil {
			return "", err
		}
		if err := unix.Bind(fd, sockaddr(domain, local)); err != nil {
			return "", fmt.Errorf("bind: %w", err)
		}
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 3}); err != nil {
		return "", err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return "", err
	}
	if err := unix.Connect(fd, sockaddr(domain, address)); err != nil {
		_ = unix.Close(fd)
		return "", fmt.Errorf("connect: %w", err)
	}
	return strconv.Itoa(fd), nil
}

func sockaddr(domain int, a netip.AddrPort) unix.Sockaddr {
	if domain == unix.AF_INET6 {
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// Process is a process in a cgroup. Its methods must not be called concurrently.
type Process struct {
	t       testing.TB
	stdin   io.WriteCloser
	answers chan string
	cmd     *exec.Cmd
}

// Start starts a process in the cgroup and in the network of the test's thread, until
// the test ends.
func (c Cgroup) Start(t testing.TB) *Process {
	t.Helper()
	folder, err := os.Open(string(c))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	cmd := exec.Command("/proc/self/exe")
	// The race detector would sleep for a second when the process ends, and Go's
	// preemption signals would interrupt its system calls.
	cmd.Env = append(os.Environ(), childEnv+"=1", "GORACE=atexit_sleep_ms=0", "GODEBUG=asyncpreemptoff=1")
	cmd.Stderr = os.Stderr
	// The process is in the cgroup from its start, like one of a container runtime.
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(folder.Fd()), Pdeathsig: syscall.SIGKILL}
	p := &Process{t: t, cmd: cmd, answers: make(chan string)}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start a process in %s: %v", c, err)
	}
	go func() {
		defer close(p.answers)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.answers <- lines.Text()
		}
	}()
	t.Cleanup(p.End)
	return p
}

// End ends the process. Further calls do nothing.
func (p *Process) End() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.stdin.Close()
	for range p.answers { // until the process has closed its output
	}
	_ = p.cmd.Wait()
}

// Move moves the process to another cgroup.
func (p *Process) Move(c Cgroup) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(string(c), "cgroup.procs"), []byte(strconv.Itoa(p.cmd.Process.Pid)), 0); err != nil {
		p.t.Fatal(err)
	}
}

// ask sends a command to the process and returns its answer.
func (p *Process) ask(words ...string) (string, error) {
	if _, err := fmt.Fprintln(p.stdin, strings.Join(words, " ")); err != nil {
		return "", err
	}
	select {
	case answer, ok := <-p.answers:
		if text, failed := strings.CutPrefix(answer, "error: "); failed || !ok {
			return "", fmt.Errorf("the process: %s", text)
		}
		return answer, nil
	case <-time.After(30 * time.Second): // the longest command takes 5 s on an idle machine
		return "", fmt.Errorf("the process does not answer the command %q", words)
	}
}

// Socket is a connected socket of a process.
type Socket struct {
	p  *Process
	fd string
}

// Connect opens a connection to address:port with a socket of the family 4, 6 or
// multipath (IPv4 with Multipath TCP). The source is address:port, or "-" if the kernel
// chooses it.
func (p *Process) Connect(family, source, destination string) (Socket, error) {
	fd, err := p.ask("connect", family, source, destination)
	return Socket{p, fd}, err
}

// Forge opens a connection with forged packets, from a source address that is another
// pod's.
func (p *Process) Forge(source, destination string) error {
	_, err := p.ask("forge", source, destination)
	return err
}

// MustConnect opens a connection with an IPv4 socket. If it fails, the test fails.
func (p *Process) MustConnect(destination string) Socket {
	p.t.Helper()
	s, err := p.Connect("4", "-", destination)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// Send writes a text without white space.
func (s Socket) Send(word string) error { _, err := s.p.ask("send", s.fd, word); return err }

// Read reads up to 64 bytes, of one line. It fails after 5 s without data.
func (s Socket) Read() (string, error) { return s.p.ask("read", s.fd) }

// Close closes the socket.
func (s Socket) Close() error { _, err := s.p.ask("close", s.fd); return err }
