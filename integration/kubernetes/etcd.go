package kubernetes

import (
	"context"
	"fmt"
	"net"
	"time"
)

// pollEvery is how often a process that was just started is asked whether it
// is ready yet.
const pollEvery = 25 * time.Millisecond

// longestSocketPath is what fits into a Unix socket address on every system.
const longestSocketPath = 103

// startEtcd starts etcd on Unix sockets: no ports, and only for this user.
func (c *Cluster) startEtcd(ctx context.Context) error {
	socket := c.file("etcd.sock")
	if len(socket) > longestSocketPath {
		return fmt.Errorf("%s is too long for the path of a Unix socket; set TMPDIR to a shorter one", socket)
	}
	clients, peers := "unix://"+socket, "unix://"+c.file("peer.sock")
	p, err := startProcess("etcd", c.file("etcd.log"), c.paths.Etcd,
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
	return p.ready(ctx, func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// ready returns when answers does, or the process ends, or ctx does.
func (p *process) ready(ctx context.Context, answers func(context.Context) error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := answers(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.done:
			p.known.Store(true)
			return p.failed(fmt.Errorf("ended before it was ready: %s", p.end))
		case <-ctx.Done():
			return p.failed(fmt.Errorf("%w: %w", context.Cause(ctx), err))
		}
	}
}
