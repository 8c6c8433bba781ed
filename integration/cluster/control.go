package cluster

import (
	"context"
	"fmt"
	"net"
	"syscall"

	"gke-metadata-emulator/integration/internal/process"
)

const (
	issuer    = "https://kubernetes.default.svc.cluster.local"
	apiServer = "https://" + controlAddress + ":" + apiPort
)

// startNetwork starts the process that has the control plane's network.
func (c *Cluster) startNetwork(ctx context.Context) error {
	var err error
	c.control, err = c.startControl("network", syscall.CLONE_NEWNET, "sleep", "infinity")
	if err != nil {
		return err
	}
	if err := makeSwitch(c.control.Pid()); err != nil {
		return fmt.Errorf("network of the control plane: %w", err)
	}
	c.relay, err = startRelay(c.control.Pid(), net.JoinHostPort(controlAddress, apiPort))
	return err
}

func (c *Cluster) startControl(name string, flags uintptr, command ...string) (*process.Process, error) {
	if flags == 0 {
		command = append([]string{"nsenter", fmt.Sprintf("--target=%d", c.control.Pid()), "--net", "--"}, command...)
	}
	p, err := launch{
		name: name, log: c.file(name + ".log"), groups: c.groups.sub("control").members(),
		env: c.environment(c.dir.Path()), flags: flags, command: command,
	}.start()
	if err == nil {
		c.mu.Lock()
		c.processes = append(c.processes, p)
		c.mu.Unlock()
	}
	return p, err
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	p, err := c.startControl("etcd", 0, c.binaries.Etcd,
		"--name=test",
		"--data-dir="+c.file("etcd"),
		"--listen-client-urls="+client,
		"--advertise-client-urls="+client,
		"--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer,
		"--initial-cluster=test="+peer,
		"--unsafe-no-fsync", // the data is not to outlive the test
		"--log-level=warn",
	)
	if err != nil {
		return err
	}
	return p.Ready(ctx, func(ctx context.Context) error {
		conn, err := dialIn(ctx, c.control.Pid(), "tcp", "127.0.0.1:2379")
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

func (c *Cluster) startAPIServer(ctx context.Context) error {
	err := c.pki.issue("kube-apiserver", subject{name: "kube-apiserver", hosts: []string{
		"127.0.0.1", controlAddress, apiAddress, "localhost", "kubernetes", "kubernetes.default",
		"kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}})
	if err != nil {
		return err
	}
	if err := c.pki.issue("kubelet-client", subject{name: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}}); err != nil {
		return err
	}
	flags := append(c.signingFlags(),
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address="+controlAddress,
		"--secure-port="+apiPort,
		"--tls-cert-file="+c.pki.file("kube-apiserver.crt"),
		"--tls-private-key-file="+c.pki.file("kube-apiserver.key"),
		"--client-ca-file="+c.pki.file(authorityFile),
		"--kubelet-certificate-authority="+c.pki.file(authorityFile),
		"--kubelet-client-certificate="+c.pki.file("kubelet-client.crt"),
		"--kubelet-client-key="+c.pki.file("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP", // the nodes' names are not in any DNS
		"--anonymous-auth=false",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-account-issuer="+issuer,
		"--service-account-jwks-uri="+issuer+"/openid/v1/jwks",
		"--service-cluster-ip-range="+serviceRange,
		"--profiling=false",
	)
	p, err := c.startControl("kube-apiserver", 0, append([]string{c.binaries.APIServer}, flags...)...)
	if err != nil {
		return err
	}
	return p.Ready(ctx, func(ctx context.Context) error {
		body, err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, body)
		}
		return nil
	})
}

// startControllers starts the components that exit if the API server is not ready.
func (c *Cluster) startControllers() error {
	for _, program := range []struct {
		name  string
		flags []string
	}{
		{"kube-controller-manager", []string{
			"--service-account-private-key-file=" + c.pki.file(c.SigningKey().file),
			"--root-ca-file=" + c.pki.file(authorityFile),
			"--use-service-account-credentials",
			"--flex-volume-plugin-dir=" + c.file("volume-plugins"), // else it makes one in /usr
		}},
		{"kube-scheduler", nil},
	} {
		file, err := c.pki.kubeconfig(program.name, apiServer, subject{name: "system:" + program.name})
		if err != nil {
			return err
		}
		command := append([]string{
			c.binaries.nodeComponents, program.name,
			"--kubeconfig=" + file, "--authentication-kubeconfig=" + file, "--authorization-kubeconfig=" + file,
			"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false",
		}, program.flags...)
		if _, err := c.startControl(program.name, 0, command...); err != nil {
			return err
		}
	}
	return nil
}

// Address is the address at which nodes and pods reach listeners of [Cluster.Listen].
const Address = controlAddress

// Listen listens beside the control plane, in its network, where nodes and pods
// can connect to; until the cluster ends.
func (c *Cluster) Listen(address string) (listener net.Listener, err error) {
	err = inNetwork(c.control.Pid(), func() error {
		var listening error
		listener, listening = net.Listen("tcp", address)
		return listening
	})
	return listener, err
}
