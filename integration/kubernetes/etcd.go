package kubernetes

import (
	"context"
	"fmt"
	"net"
	"os/exec"

	"gke-metadata-emulator/integration/internal/process"
)

// longestSocketPath is the length that fits into a Unix socket address on every system.
const longestSocketPath = 103

// startEtcd starts etcd on Unix sockets: no ports, and only for this user.
func (c *Cluster) startEtcd(ctx context.Context) error {
	socket := c.file("etcd.sock")
	if len(socket) > longestSocketPath {
		return fmt.Errorf("%s is too long for the path of a Unix socket; set TMPDIR to a shorter one", socket)
	}
	clients, peers := "unix://"+socket, "unix://"+c.file("peer.sock")
	p, err := c.start("etcd", c.paths.Etcd,
		"--name=test",
		"--data-dir="+c.file("etcd"),
		"--listen-client-urls="+clients,
		"--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers,
		"--initial-advertise-peer-urls="+peers,
		"--initial-cluster=test="+peers,
		"--unsafe-no-fsync", // the data is not to outlive the test
		"--log-level=warn",
	)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.etcd = p
	c.mu.Unlock()
	return p.Ready(ctx, func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// start starts a program with nothing of the caller's environment: etcd takes flags
// from there.
func (c *Cluster) start(name, binary string, flags ...string) (*process.Process, error) {
	cmd := exec.Command(binary, flags...)
	cmd.Env = []string{"HOME=" + c.dir.Path(), "TMPDIR=" + c.dir.Path()}
	return process.Start(name, c.file(name+".log"), cmd)
}
