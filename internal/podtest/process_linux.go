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

// child is the environment variable that makes a test binary a process of a pod.
const child = "GME_PODTEST_PROCESS"

// Main is the process of a pod, in the test binary that was started as one; a
// TestMain calls it first. In any other it does nothing.
func Main() {
	if os.Getenv(child) == "" {
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := obey(strings.Fields(lines.Text()))
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Println(answer)
	}
	os.Exit(0)
}

func obey(words []string) (string, error) {
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
	return "", fmt.Errorf("what is %q?", words)
}

// connect opens a socket of a family and connects it: one of IPv6 to an IPv4
// address by its mapped form, as Java and .NET do.
func connect(family, source, to string) (string, error) {
	address, err := netip.ParseAddrPort(to)
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
		from, err := netip.ParseAddrPort(source)
		if err != nil {
			return "", err
		}
		if err := unix.Bind(fd, sockaddr(domain, from)); err != nil {
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

// Process is a process in a cgroup.
type Process struct {
	t       testing.TB
	in      io.WriteCloser
	answers chan string
	cmd     *exec.Cmd
}

// Start starts one, in the network that the test's thread is in. It ends with the test.
func (c Cgroup) Start(t testing.TB) *Process {
	t.Helper()
	folder, err := os.Open(string(c))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	cmd := exec.Command("/proc/self/exe")
	// The race detector would sleep for a second at its end, and Go's own signals
	// would interrupt its system calls.
	cmd.Env = append(os.Environ(), child+"=1", "GORACE=atexit_sleep_ms=0", "GODEBUG=asyncpreemptoff=1")
	cmd.Stderr = os.Stderr
	// The child has both from its first moment, as what a container runtime starts.
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(folder.Fd()), Pdeathsig: syscall.SIGKILL}
	p := &Process{t: t, cmd: cmd, answers: make(chan string)}
	if p.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("a process in %s: %v", c, err)
	}
	go func() {
		defer close(p.answers)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.answers <- lines.Text()
		}
	}()
	t.Cleanup(p.End)
	return p
}

// End ends the process, once.
func (p *Process) End() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.in.Close()
	for range p.answers { // what it says is nobody's any more
	}
	_ = p.cmd.Wait()
}

// Move puts the process into another cgroup.
func (p *Process) Move(to Cgroup) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(string(to), "cgroup.procs"), []byte(strconv.Itoa(p.cmd.Process.Pid)), 0); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Process) ask(words ...string) (string, error) {
	if _, err := fmt.Fprintln(p.in, strings.Join(words, " ")); err != nil {
		return "", err
	}
	select {
	case answer, ok := <-p.answers:
		if text, failed := strings.CutPrefix(answer, "error: "); failed || !ok {
			return "", fmt.Errorf("the process: %s", text)
		}
		return answer, nil
	case <-time.After(10 * time.Second):
		return "", fmt.Errorf("the process does not answer to %q", words)
	}
}

// Socket is a connected socket of a process.
type Socket struct {
	p  *Process
	fd string
}

// Connect opens a connection by a socket of the family 4 or 6, or multipath (of
// IPv4, by Multipath TCP), from a source ("-" for what the kernel chooses).
func (p *Process) Connect(family, source, to string) (Socket, error) {
	fd, err := p.ask("connect", family, source, to)
	return Socket{p, fd}, err
}

// Forge opens a connection from an address of another's, by packets that the
// process makes up.
func (p *Process) Forge(source, to string) error {
	_, err := p.ask("forge", source, to)
	return err
}

// MustConnect opens a connection by a socket of IPv4.
func (p *Process) MustConnect(to string) Socket {
	p.t.Helper()
	s, err := p.Connect("4", "-", to)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// Send writes a word.
func (s Socket) Send(word string) error { _, err := s.p.ask("send", s.fd, word); return err }

// Read reads a line.
func (s Socket) Read() (string, error) { return s.p.ask("read", s.fd) }

// Close closes it.
func (s Socket) Close() error { _, err := s.p.ask("close", s.fd); return err }
