package clients

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	metadataAddress = "169.254.169.254"
	googleAddress   = "192.0.2.1" // of all stand-ins for Google's services
)

// sandbox is the network and the file system that a client sees: those of a pod on a node
// that has the metadata server.
type sandbox struct {
	ns     netns.NsHandle
	folder string // contains the files that are mounted over the machine's own
	relay  *relay
	dns    *nameServer
}

// newSandbox makes a sandbox of which nothing can leave: it has no interface but
// lo. The metadata server at server sees its requests come from podIP.
func newSandbox(t testing.TB, podIP, server string, google *google) *sandbox {
	t.Helper()
	s := &sandbox{folder: t.TempDir()}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: this thread ends here
		var err error
		s.ns, err = netns.New()
		if err == nil {
			err = addresses(metadataAddress, googleAddress)
		}
		made <- err
	}()
	err := <-made
	if errors.Is(err, unix.EPERM) || runtime.GOOS != "linux" {
		t.Skipf("a network namespace needs Linux and CAP_SYS_ADMIN, run the test as root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.ns.Close() })

	s.relay = startRelay(t, s.listen(t, metadataAddress+":80"), podIP, server)
	s.dns = startNameServer(t, s.listenPacket(t, "127.0.0.1:53"), google.names())
	google.serve(t, s.listen(t, googleAddress+":443"))
	s.writeFile(t, "hosts", "127.0.0.1 localhost\n")
	// As in a pod: each name is first looked for in the cluster's domains.
	s.writeFile(t, "resolv.conf", "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.1\noptions ndots:5\n")
	s.writeFile(t, "product_name", "kind\n")
	s.writeFile(t, "ca.pem", string(google.ca))
	return s
}

// addresses brings up lo in the namespace of this thread.
func addresses(ips ...string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, ip := range ips {
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(ip), Mask: net.CIDRMask(32, 32)}}); err != nil {
			return fmt.Errorf("%s on lo: %w", ip, err)
		}
	}
	return netlink.LinkSetUp(lo)
}

// in calls f in the sandbox's network. A socket stays in the network in which it was made.
func (s *sandbox) in(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		back, err := s.enter()
		if err == nil {
			err = errors.Join(f(), back())
		}
		if err == nil {
			runtime.UnlockOSThread()
		} // otherwise the thread ends here: its namespace is unknown
		done <- err
	}()
	return <-done
}

// enter moves this thread, which is locked, into the sandbox's network.
func (s *sandbox) enter() (back func() error, err error) {
	before, err := netns.Get()
	if err != nil {
		return nil, err
	}
	if err := netns.Set(s.ns); err != nil {
		return nil, errors.Join(err, before.Close())
	}
	return func() error { return errors.Join(netns.Set(before), before.Close()) }, nil
}

func (s *sandbox) listen(t testing.TB, address string) (listener net.Listener) {
	t.Helper()
	if err := s.in(func() (err error) {
		listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return listener
}

func (s *sandbox) listenPacket(t testing.TB, address string) (conn net.PacketConn) {
	t.Helper()
	if err := s.in(func() (err error) {
		conn, err = new(net.ListenConfig).ListenPacket(context.Background(), "udp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return conn
}

// dial connects as a program in the sandbox would, without a look-up of names.
func (s *sandbox) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = s.in(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (s *sandbox) file(name string) string { return filepath.Join(s.folder, name) }

func (s *sandbox) writeFile(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(s.file(name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
