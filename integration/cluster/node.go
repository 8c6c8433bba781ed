package cluster

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"gke-metadata-emulator/integration/internal/process"
)

//go:embed files
var files embed.FS

// Node is a machine of the cluster, as programs on it see it.
type Node struct {
	Name    string
	Address string

	index   int
	cluster *Cluster
	folder  string
	groups  cgroups

	mu        sync.Mutex         // guards the fields below
	init      *process.Process   // has the node's namespaces; nil while the node is off
	processes []*process.Process // the others
}

// nodeValues fill in the templates of a node's settings.
type nodeValues struct {
	Name, Folder, PKI, Runc                              string
	PauseImage, PodRange, PodRanges, LastPod, DNSAddress string
	Pods                                                 int
}

func (c *Cluster) newNode(index int) (*Node, error) {
	n := &Node{Name: fmt.Sprintf("node-%d", index+1), Address: nodeAddress(index), index: index, cluster: c}
	n.folder = c.file(n.Name)
	n.groups = c.groups.sub(n.Name)
	user := subject{name: "system:node:" + n.Name, groups: []string{"system:nodes"}}
	if _, err := c.pki.kubeconfig("node-"+n.Name, apiServer, user); err != nil {
		return nil, err
	}
	if err := c.pki.issue("kubelet-"+n.Name, subject{name: user.name, hosts: []string{n.Name, n.Address}}); err != nil {
		return nil, err
	}
	values := nodeValues{
		Name: n.Name, Folder: n.folder, PKI: c.pki.folder, Runc: c.binaries.runc,
		PauseImage: pauseImage, PodRange: podRange(index), PodRanges: podRanges, LastPod: lastPod(index, c.pods), Pods: c.pods, DNSAddress: dnsAddress,
	}
	for name, path := range map[string]string{
		"containerd.toml":           "containerd.toml",
		"kubelet.yaml":              "kubelet.yaml",
		"kube-proxy.yaml":           "kube-proxy.yaml",
		string(c.cni) + ".conflist": "etc/cni/net.d/10-pods.conflist",
	} {
		content, err := render(name, values)
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(n.file(path)), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(n.file(path), content, 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(n.file("static-pods"), 0o755); err != nil {
		return nil, err
	}
	// For pods that do not use the cluster's DNS: there is no other server.
	return n, os.WriteFile(n.file("resolv.conf"), nil, 0o644)
}

// render fills in one of the files of this package.
func render(name string, values any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").ParseFS(files, "files/"+name)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	err = t.Execute(&content, values)
	return content.Bytes(), err
}

func (n *Node) file(name string) string { return filepath.Join(n.folder, name) }

// boot starts the node up to its container runtime, and run the rest. Between
// the two images can be loaded.
func (n *Node) boot(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.init != nil {
		return fmt.Errorf("%s runs already", n.Name)
	}
	system := n.groups.sub("system")
	for _, do := range []func() error{n.groups.make, n.groups.delegate, system.make} {
		if err := do(); err != nil {
			return err
		}
	}
	script, err := files.ReadFile("files/node.sh")
	if err != nil {
		return err
	}
	n.processes = nil
	n.init, err = launch{
		name: n.Name, log: n.file("node.log"), groups: system.members(), env: n.cluster.environment(n.folder),
		flags:   syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS,
		command: []string{"/bin/sh", "-c", string(script), "node", n.folder, n.Name, n.cluster.binaries.cni, strings.Join(n.groups.mounts, " "), "/" + n.groups.path},
	}.start()
	if err != nil {
		return err
	}
	err = n.init.Ready(ctx, func(context.Context) error {
		_, err := os.Stat(n.inside("/run/node-is-there"))
		return err
	})
	if err != nil {
		return err
	}
	if err := connect(n.cluster.control.Pid(), n.init.Pid(), n.index, len(n.cluster.Nodes)); err != nil {
		return fmt.Errorf("network of %s: %w", n.Name, err)
	}
	containerd, err := n.start("containerd", filepath.Join(n.cluster.binaries.containerd, "containerd"), "--config", n.file("containerd.toml"))
	if err != nil {
		return err
	}
	runtime, err := grpc.NewClient("unix://"+n.inside("/run/containerd/containerd.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	err = containerd.Ready(ctx, func(ctx context.Context) error {
		// That it listens is not enough, a kubelet would end itself. Of the messages
		// nothing is needed.
		return runtime.Invoke(ctx, "/runtime.v1.RuntimeService/Version", &emptypb.Empty{}, &emptypb.Empty{})
	})
	return errors.Join(err, runtime.Close())
}

func (n *Node) run() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	components := n.cluster.binaries.nodeComponents
	_, err := n.start("kubelet", components, "kubelet",
		"--config="+n.file("kubelet.yaml"),
		"--kubeconfig="+n.cluster.pki.file("node-"+n.Name+".kubeconfig"),
		"--hostname-override="+n.Name,
		"--node-ip="+n.Address,
	)
	if err != nil {
		return err
	}
	_, err = n.start("kube-proxy", components, "kube-proxy", "--config="+n.file("kube-proxy.yaml"))
	return err
}

// inside is the path of a file of the node, from outside of it.
func (n *Node) inside(path string) string {
	return filepath.Join("/proc", strconv.Itoa(n.init.Pid()), "root", path)
}

func (n *Node) enter(command ...string) []string {
	return append([]string{"nsenter", "--target=" + strconv.Itoa(n.init.Pid()), "--mount", "--net", "--uts", "--"}, command...)
}

// start starts a program of the node. The lock is held.
func (n *Node) start(name string, command ...string) (*process.Process, error) {
	p, err := launch{
		name: name + " of " + n.Name, log: n.file(name + ".log"), groups: n.groups.sub("system").members(),
		env: n.cluster.environment(n.folder), command: n.enter(command...),
	}.start()
	if err == nil {
		n.processes = append(n.processes, p)
	}
	return p, err
}

// Run runs a program of this machine on the node until it ends, and returns its output.
func (n *Node) Run(ctx context.Context, command ...string) ([]byte, error) {
	n.mu.Lock()
	if n.init == nil {
		n.mu.Unlock()
		return nil, fmt.Errorf("%s is off", n.Name)
	}
	command = n.enter(command...)
	n.mu.Unlock()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = n.cluster.environment(n.folder)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w\n%s", strings.Join(command[5:], " "), n.Name, err, out)
	}
	return out, nil
}

// off ends all processes of the node at once, as a power failure would, with all their
// connections, namespaces and mounts. Their files stay.
func (n *Node) off() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.init == nil {
		return nil
	}
	var errs []error
	for _, p := range append(n.processes, n.init) {
		errs = append(errs, p.Crashed())
		p.ExpectEnd()
	}
	errs = append(errs, n.groups.kill())
	n.init = nil
	return errors.Join(errs...)
}

// crashed returns which process of the node has ended on its own.
func (n *Node) crashed() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, p := range n.processes {
		errs = append(errs, p.Crashed())
	}
	return errors.Join(errs...)
}

// Listen listens in the node's network, until the node is off.
func (n *Node) Listen(address string) (listener net.Listener, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.init == nil {
		return nil, fmt.Errorf("%s is off", n.Name)
	}
	err = inNetwork(n.init.Pid(), func() error {
		var listening error
		listener, listening = net.Listen("tcp", address)
		return listening
	})
	return listener, err
}

// Pids returns the ids of the node's processes, of its pods' too.
func (n *Node) Pids() ([]int, error) { return n.groups.pids() }
