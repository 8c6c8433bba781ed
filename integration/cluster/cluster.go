package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gke-metadata-emulator/integration/internal/process"
	"gke-metadata-emulator/integration/internal/scratch"
)

// upWithin bounds the start of a cluster, which takes about 12 s on two idle
// cores.
const upWithin = 3 * time.Minute

// stepWithin bounds steps that take seconds: the start of a node, an image, manifests.
const stepWithin = 2 * time.Minute

func bounded(ctx context.Context, step string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, stepWithin, fmt.Errorf("%s: not done within %s", step, stepWithin))
}

// CNI is how pods are connected to their node.
type CNI string

// The values of Config.CNI.
const (
	Bridge CNI = "bridge" // all pods of the node on one bridge
	PTP    CNI = "ptp"    // each pod on a separate link
)

// Config is the part that differs between clusters. The zero value is one node with a
// bridge.
type Config struct {
	Nodes    int
	CNI      CNI
	Pods     int               // on a node at a time: 12 if 0, 200 at most
	DNSHosts map[string]string // names that CoreDNS resolves in addition to the cluster's, and their addresses
	Log      io.Writer         // progress, os.Stderr if nil
}

// Cluster is a running cluster. Fields are read-only.
type Cluster struct {
	Config *rest.Config         // of an administrator, without client-side limits
	Client kubernetes.Interface // with Config
	Issuer string               // of the KSA tokens
	Nodes  []*Node

	cni      CNI
	pods     int // on a node
	binaries binaries
	dir      *scratch.Folder
	groups   cgroups
	pki      *authority
	relay    *relay
	control  *process.Process // has the control plane's network

	mu        sync.Mutex // guards the fields below
	closed    bool
	processes []*process.Process // of the control plane
	keys      signingKeys
}

// Up starts a cluster. It returns when its nodes are ready and pods can be created. The
// caller closes the cluster. If the process ends without closing it, the next Up or [Sweep]
// removes it.
func Up(ctx context.Context, config Config) (*Cluster, error) {
	if config.Log == nil {
		config.Log = os.Stderr
	}
	config.Nodes = max(config.Nodes, 1)
	if config.CNI == "" {
		config.CNI = Bridge
	}
	if config.Pods == 0 {
		config.Pods = podsOnNode
	}
	if config.Pods > maxPodsOnNode {
		return nil, fmt.Errorf("%d pods on a node: it has addresses for %d", config.Pods, maxPodsOnNode)
	}
	if err := needForNodes(ctx, config.Log); err != nil {
		return nil, err
	}
	if err := Sweep(); err != nil {
		return nil, err
	}
	binaries, err := build(ctx, config.Log)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Issuer: issuer, cni: config.CNI, pods: config.Pods, binaries: binaries}
	started := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, upWithin, fmt.Errorf("not ready within %s", upWithin))
	defer cancel()
	if err := c.up(ctx, config); err != nil {
		return nil, fmt.Errorf("start a cluster: %w", errors.Join(err, c.Close()))
	}
	fmt.Fprintf(config.Log, "cluster of %d nodes, CNI %s: up in %s\n", config.Nodes, config.CNI, time.Since(started).Round(100*time.Millisecond))
	return c, nil
}

func (c *Cluster) up(ctx context.Context, config Config) error {
	if err := c.prepare(); err != nil {
		return err
	}
	if err := c.startNetwork(ctx); err != nil {
		return err
	}
	if err := c.makeClient(); err != nil {
		return err
	}
	for i := range config.Nodes {
		n, err := c.newNode(i)
		if err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, n)
	}
	system, err := c.systemImages(ctx)
	if err != nil {
		return err
	}
	g, starting := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		g.Go(func() error { return n.boot(starting) })
	}
	g.Go(func() error {
		if err := c.startEtcd(starting); err != nil {
			return err
		}
		if err := c.startAPIServer(starting); err != nil {
			return err
		}
		return c.startControllers()
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if err := c.Load(ctx, system...); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := n.run(); err != nil {
			return err
		}
	}
	if err := c.startDNS(ctx, config.DNSHosts); err != nil {
		return err
	}
	return errors.Join(c.awaitReady(ctx), c.crashed())
}

func (c *Cluster) prepare() error {
	var err error
	if c.dir, err = newFolder(); err != nil {
		return err
	}
	if c.groups, err = cgroupsFor(c.dir); err != nil {
		return err
	}
	for _, do := range []func() error{c.groups.make, c.groups.delegate, c.groups.sub("control").make} {
		if err := do(); err != nil {
			return err
		}
	}
	if c.pki, err = newAuthority(c.file("pki")); err != nil {
		return err
	}
	if err := c.firstSigningKey(); err != nil {
		return err
	}
	_, err = c.pki.kubeconfig("kube-proxy", apiServer, subject{name: "system:kube-proxy"})
	return err
}

func (c *Cluster) makeClient() error {
	_, err := c.pki.kubeconfig("admin", "https://"+c.relay.listener.Addr().String(), subject{name: "admin", groups: []string{"system:masters"}})
	if err != nil {
		return err
	}
	if c.Config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig()); err != nil {
		return err
	}
	c.Config.QPS = -1
	c.Client, err = kubernetes.NewForConfig(c.Config)
	return err
}

// awaitReady returns when all nodes and the cluster's DNS are ready, and pods
// can be created in the default namespace.
func (c *Cluster) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go c.cancelOnCrash(ctx, cancel)
	for _, n := range c.Nodes {
		if err := n.AwaitReady(ctx); err != nil {
			return err
		}
	}
	accounts := c.Client.CoreV1().ServiceAccounts(corev1.NamespaceDefault)
	err := Await(ctx, accounts, "default", func(*corev1.ServiceAccount) error { return nil })
	if err != nil {
		return err
	}
	return c.awaitDNS(ctx)
}

// cancelOnCrash ends a wait if a component has crashed.
func (c *Cluster) cancelOnCrash(ctx context.Context, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := c.crashed(); err != nil {
				cancel(err)
			}
		}
	}
}

// crashed returns which component has ended on its own.
func (c *Cluster) crashed() error {
	c.mu.Lock()
	var errs []error
	for _, p := range c.processes {
		errs = append(errs, p.Crashed())
	}
	c.mu.Unlock()
	for _, n := range c.Nodes {
		errs = append(errs, n.crashed())
	}
	return errors.Join(errs...)
}

// KillNode ends all processes of the node at once, including those of its pods, as a power
// failure would. Files that they wrote are still there after RestartNode.
func (c *Cluster) KillNode(n *Node) error { return n.off() }

// RestartNode restarts a node after KillNode or while it runs. It returns when the kubelet
// has been started; see [Node.AwaitReady].
func (c *Cluster) RestartNode(ctx context.Context, n *Node) error {
	if err := n.off(); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx, "start of "+n.Name)
	defer cancel()
	if err := n.boot(ctx); err != nil {
		return err
	}
	return n.run()
}

// Kubeconfig returns the path of an administrator's kubeconfig file. It is gone
// after Close.
func (c *Cluster) Kubeconfig() string { return c.pki.file("admin.kubeconfig") }

// Kubectl returns the path of kubectl, of the nodes' version.
func (c *Cluster) Kubectl() string { return c.binaries.kubectl }

// JWKS returns the public keys of the KSA tokens, as the API server publishes
// them.
func (c *Cluster) JWKS(ctx context.Context) ([]byte, error) {
	keys, err := c.Client.Discovery().RESTClient().Get().AbsPath("/openid/v1/jwks").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("keys of the KSA tokens: %w", err)
	}
	return keys, nil
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir.Path(), name) }

// environment is that of all the cluster's processes: containerd finds its shim
// by it.
func (c *Cluster) environment(home string) []string {
	return []string{"HOME=" + home, "TMPDIR=" + home, "PATH=" + c.binaries.containerd + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
}

// Close ends the cluster and removes all traces of it. The error names a component that had
// ended on its own before.
func (c *Cluster) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	errs := []error{c.crashed()}
	if c.relay != nil {
		errs = append(errs, c.relay.close())
	}
	if c.dir == nil {
		return errors.Join(errs...)
	}
	c.mu.Lock()
	for _, p := range c.processes {
		p.ExpectEnd()
	}
	c.mu.Unlock()
	if err := c.groups.kill(); err != nil {
		return errors.Join(append(errs, err)...) // the files stay, for Sweep
	}
	return errors.Join(append(errs, c.dir.Remove())...)
}
