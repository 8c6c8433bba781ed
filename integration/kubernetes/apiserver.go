package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"gke-metadata-emulator/integration/internal/process"
)

const issuer = "https://kubernetes.default.svc.cluster.local"

var errClosed = errors.New("the cluster is closed")

// StartAPIServer starts the API server after StopAPIServer, at the same
// address and with the same data, and returns when it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	p, err := c.launchAPIServer()
	if err != nil {
		return err
	}
	return p.Ready(ctx, func(ctx context.Context) error {
		client := c.Client.Discovery().RESTClient()
		if body, err := client.Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
			return fmt.Errorf("%w\n%s", err, body)
		}
		// The API server creates this namespace, but possibly after it reports that it is ready.
		_, err := client.Get().AbsPath("/api/v1/namespaces/default").DoRaw(ctx)
		return err
	})
}

func (c *Cluster) launchAPIServer() (*process.Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.apiServer != nil {
		return nil, errors.New("the API server runs already")
	}
	flags := []string{
		"--etcd-servers=unix://" + c.file("etcd.sock"),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", c.port.number),
		"--permit-port-sharing",
		"--tls-cert-file=" + c.file(certificateFile),
		"--tls-private-key-file=" + c.file(certificateKeyFile),
		"--token-auth-file=" + c.file(tokensFile),
		"--anonymous-auth=false",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=" + issuer,
		"--service-account-jwks-uri=" + issuer + "/openid/v1/jwks", // else it has this machine's address
		"--service-account-signing-key-file=" + c.file(signingKeyFile),
		"--service-account-key-file=" + c.file(signingKeyFile),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--advertise-address=127.0.0.1", // else it wants a default route
		"--endpoint-reconciler-type=none",
		"--profiling=false",
	}
	p, err := c.start("kube-apiserver", c.paths.APIServer, append(flags, c.flags...)...)
	if err != nil {
		return nil, err
	}
	c.apiServer = p
	return p, nil
}

// StopAPIServer is an outage: connections break, new ones are refused. Etcd
// keeps the data.
func (c *Cluster) StopAPIServer() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	if c.apiServer == nil {
		return errors.New("the API server is stopped already")
	}
	p := c.apiServer
	c.apiServer = nil
	return errors.Join(p.Crashed(), p.Kill())
}

// PauseAPIServer makes the API server hang: connections stay, and new ones are
// accepted by the kernel, but nothing is answered until ResumeAPIServer.
func (c *Cluster) PauseAPIServer() error {
	if err := c.signalAPIServer(syscall.SIGSTOP); err != nil {
		return err
	}
	return c.apiServer.AwaitStop()
}

// ResumeAPIServer lets a paused API server go on.
func (c *Cluster) ResumeAPIServer() error { return c.signalAPIServer(syscall.SIGCONT) }

func (c *Cluster) signalAPIServer(s syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	if c.apiServer == nil {
		return fmt.Errorf("%s: the API server is stopped", s)
	}
	return c.apiServer.Signal(s)
}
