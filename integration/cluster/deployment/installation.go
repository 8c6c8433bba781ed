package deployment

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/cluster"
)

const (
	// Name is that of the DaemonSet and of its namespace.
	Name = "gke-metadata-emulator"

	image         = "docker.io/library/gke-metadata-emulator:latest" // what deploy/ names, in full
	readyWithin   = 3 * time.Minute                                  // far more than on idle cores
	removedWithin = time.Minute
)

// T is what this package needs of *testing.T.
type T interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Error(...any)
	Errorf(string, ...any)
	Fatal(...any)
	Fatalf(string, ...any)
	Logf(string, ...any)
}

// Options is how the product is installed.
type Options struct {
	Overlay  string   // folder of deploy/: federation, impersonation; federation if empty
	Settings []string // GME_NAME=value, besides the overlay's
	Patch    string   // of the DaemonSet, as kustomize takes it; none if empty

	// Google is one that the daemons reach by the names that Google has, without
	// any setting. By default there is one on each node's loopback.
	Google *fakegoogle.Server

	// Before is called when the namespace exists and the rest does not yet.
	Before func(context.Context, *cluster.Cluster) error
}

// Installation is the product in a cluster.
type Installation struct {
	Cluster *cluster.Cluster
	Google  *fakegoogle.Server
	Program string // path of the daemon's on this machine
}

// Load gives the nodes the product's image, made as the Dockerfile makes it. It
// returns the path of its program.
func Load(t T, c *cluster.Cluster) string {
	t.Helper()
	return LoadTrusting(t, c, authorities)
}

// authorities is the path at which a Linux image, like many machines, has the certificates
// that it trusts.
const authorities = "/etc/ssl/certs/ca-certificates.crt"

// LoadTrusting is [Load] with a file of the certificate authorities that the
// daemon trusts.
func LoadTrusting(t T, c *cluster.Cluster, trusted string) string {
	t.Helper()
	program, err := c.BuildStatic(t.Context(), ".", "./cmd/gke-metadata-emulator", "gke-metadata-emulator", "grpcnotrace")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"/gke-metadata-emulator": program}
	if _, err := os.Stat(trusted); err == nil {
		files[authorities] = trusted
	} else {
		t.Logf("the daemon's image is without certificate authorities, which the offline Google needs none of: %v", err)
	}
	err = c.Load(t.Context(), cluster.Image{
		Name: image, Files: files, Entrypoint: []string{"/gke-metadata-emulator"}, Cmd: []string{"serve"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(program); err != nil {
		t.Error(err)
	} else {
		t.Logf("the daemon's image is its program of %.1f MiB on an empty root", float64(info.Size())/(1<<20))
	}
	return program
}

// Install follows the README, with an offline Google that trusts the cluster's issuer. It
// returns when the daemons are ready, and uninstalls when the test ends. The program is the
// result of [Load].
func Install(t T, c *cluster.Cluster, program string, options Options) *Installation {
	t.Helper()
	i := &Installation{Cluster: c, Google: options.Google, Program: program}
	if i.Google == nil {
		i.Google = fakegoogle.New(fakegoogle.Options{})
		for _, n := range c.Nodes {
			i.ServeGoogle(t, n)
		}
	}
	keys, err := c.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Google.AddProvider(fakegoogle.Provider{Name: Provider, Issuer: c.Issuer, JWKS: keys}); err != nil {
		t.Fatal(err)
	}
	manifests, err := manifests(options)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	t.Cleanup(func() { i.uninstall(t) })
	if err := i.apply(t.Context(), manifests, options.Before); err != nil {
		t.Fatal(err)
	}
	i.AwaitReady(t)
	t.Logf("the daemons are ready %s after they were installed", time.Since(start).Round(100*time.Millisecond))
	return i
}

func (i *Installation) apply(ctx context.Context, manifests []byte, before func(context.Context, *cluster.Cluster) error) error {
	if before != nil {
		namespace := "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + Name + "}\n"
		if err := i.Cluster.Apply(ctx, []byte(namespace)); err != nil {
			return err
		}
		if err := before(ctx, i.Cluster); err != nil {
			return err
		}
	}
	return i.Cluster.Apply(ctx, manifests)
}

// AwaitReady returns when each node has a ready daemon.
func (i *Installation) AwaitReady(t T) {
	t.Helper()
	ctx, cancel := within(t.Context(), readyWithin)
	defer cancel()
	wanted := int32(len(i.Cluster.Nodes))
	err := cluster.Await(ctx, i.Cluster.Client.AppsV1().DaemonSets(Name), Name, func(d *appsv1.DaemonSet) error {
		if d.Status.ObservedGeneration < d.Generation || d.Status.NumberReady < wanted || d.Status.UpdatedNumberScheduled < wanted {
			return fmt.Errorf("%d of %d daemons are ready", d.Status.NumberReady, wanted)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, i.Logs(t.Context()))
	}
}

// uninstall removes this installation as the product's manual describes, so that the next
// one finds a clean cluster.
func (i *Installation) uninstall(t T) {
	ctx, cancel := within(context.WithoutCancel(t.Context()), removedWithin)
	defer cancel()
	i.refuseTokens(ctx, t)
	foreground := metav1.DeletePropagationForeground
	err := i.Cluster.Client.AppsV1().DaemonSets(Name).Delete(ctx, Name, metav1.DeleteOptions{PropagationPolicy: &foreground})
	if err == nil {
		err = i.awaitNoPods(ctx)
	}
	if err != nil {
		t.Errorf("uninstall: %v", err)
	}
	for _, n := range i.Cluster.Nodes {
		if _, err := n.Run(ctx, i.Program, "cleanup"); err != nil {
			t.Error(err)
		}
		for _, left := range []struct {
			trace   string
			command []string
		}{
			{"169.254.169.254", []string{"cat", "/proc/net/fib_trie"}},
			{Name, []string{"nft", "list", "tables"}},
			{Name, []string{"find", "/sys/fs/bpf"}},
		} {
			if output, err := n.Run(ctx, left.command...); err != nil || strings.Contains(string(output), left.trace) {
				t.Errorf("%s after cleanup: %v: %s", n.Name, err, output)
			}
		}
	}
}

func (i *Installation) awaitNoPods(ctx context.Context) error {
	pods := i.Cluster.Client.CoreV1().Pods(Name)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		left, err := pods.List(ctx, metav1.ListOptions{})
		if err == nil && len(left.Items) == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("pods of %s: %w: %d are left, %v", Name, context.Cause(ctx), len(left.Items), err)
		}
	}
}

// Logs are the latest log lines of the daemons.
func (i *Installation) Logs(ctx context.Context) string {
	ctx, cancel := within(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	pods := i.Cluster.Client.CoreV1().Pods(Name)
	list, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	var logs bytes.Buffer
	lines := int64(60)
	for _, pod := range list.Items {
		fmt.Fprintf(&logs, "%s on %s is %s %s\n", pod.Name, pod.Spec.NodeName, pod.Status.Phase, waiting(&pod))
		content, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx)
		fmt.Fprintf(&logs, "%s\n%v\n", content, err)
	}
	return logs.String()
}

func waiting(pod *corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		if w := status.State.Waiting; w != nil {
			return w.Reason + ": " + w.Message
		}
	}
	return pod.Status.Message
}

func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("not within %s", d))
}
