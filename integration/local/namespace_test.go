package local

import (
	"errors"
	"net/netip"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a separate network. It has only lo at first, so nothing leaves it and all of
// its ports are free.
type namespace struct {
	handle netns.NsHandle
	links  *netlink.Handle
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{}
	err := elsewhere(func() (err error) {
		n.handle, err = netns.New()
		return err
	})
	if errors.Is(err, unix.EPERM) {
		t.Skipf("a network namespace needs CAP_SYS_ADMIN, run the test as root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.handle.Close() })
	if n.links, err = netlink.NewHandleAt(n.handle, unix.NETLINK_ROUTE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.links.Close)
	n.up(t, "lo")
	return n
}

func (n *namespace) up(t *testing.T, name string, addresses ...netip.Prefix) {
	t.Helper()
	link, err := n.links.LinkByName(name)
	for _, a := range addresses {
		if err == nil {
			var address *netlink.Addr
			if address, err = netlink.ParseAddr(a.String()); err == nil {
				err = n.links.AddrAdd(link, address)
			}
		}
	}
	if err == nil {
		err = n.links.LinkSetUp(link)
	}
	if err != nil {
		t.Fatalf("%s %v: %v", name, addresses, err)
	}
}

// start starts a command in the namespace. The command and its children end with the test.
func (n *namespace) start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := elsewhere(func() error {
		if err := netns.Set(n.handle); err != nil {
			return err
		}
		return cmd.Start()
	}); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
}

// elsewhere calls f on a thread that f can move to another network. The thread returns and
// stays alive, because the kernel ends its child processes with it.
func elsewhere(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		before, err := netns.Get()
		if err == nil {
			err = f()
			back := errors.Join(netns.Set(before), before.Close())
			if back == nil {
				runtime.UnlockOSThread()
			} // otherwise the thread ends here: its namespace is unknown
			err = errors.Join(err, back)
		}
		done <- err
	}()
	return <-done
}
