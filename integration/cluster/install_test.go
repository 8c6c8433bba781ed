package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/cluster"
)

const (
	projectID     = "prod-project"
	projectNumber = "998877665544"
	pool          = "//iam.googleapis.com/projects/" + projectNumber + "/locations/global/workloadIdentityPools/on-prem"
	provider      = pool + "/providers/cluster-1"
	googleAddress = "127.0.0.1:8988" // of each node: the daemon uses http only there
	daemonName    = "gke-metadata-emulator"
	readyWithin   = time.Minute
)

// environment is a cluster where the product is installed.
type environment struct {
	t       *testing.T
	cluster *cluster.Cluster
	google  *fakegoogle.Server
	mode    routingMode
	program string // the daemon's
	note    string // of the check, for the table
}

func (e *environment) in(t *testing.T) *environment {
	in := &environment{t: t, cluster: e.cluster, google: e.google, mode: e.mode, program: e.program}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(in.daemonLogs())
		}
	})
	return in
}

// install does what the README says for federation, with an offline Google on
// each node's loopback.
func install(t *testing.T, c *cluster.Cluster, mode routingMode, program string) *environment {
	t.Helper()
	e := &environment{t: t, cluster: c, google: fakegoogle.New(fakegoogle.Options{}), mode: mode, program: program}
	keys, err := c.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.google.AddProvider(fakegoogle.Provider{Name: provider, Issuer: c.Issuer, JWKS: keys}); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		e.serveGoogle(n)
	}
	start := time.Now()
	if err := c.Apply(t.Context(), e.manifests(mode)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.uninstall)
	e.awaitDaemons()
	t.Logf("the daemons are ready %s after they were installed", time.Since(start).Round(100*time.Millisecond))
	for line := range strings.Lines(e.daemonLogs()) {
		if strings.Contains(line, "msg=routing ") || strings.Contains(line, "msg=attestation ") {
			t.Log(strings.TrimSpace(line))
		}
	}
	return e
}

// serveGoogle serves it in the node's network, until the test ends or the node
// does.
func (e *environment) serveGoogle(n *cluster.Node) {
	e.t.Helper()
	listener, err := n.Listen(googleAddress)
	if err != nil {
		e.t.Fatal(err)
	}
	server := &http.Server{Handler: e.google, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	e.t.Cleanup(func() {
		if err := server.Close(); err != nil {
			e.t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			e.t.Error(err)
		}
	})
}

// manifests are those of deploy/federation, with the placeholders filled in, as
// kubectl apply -k would send them.
func (e *environment) manifests(mode routingMode) []byte {
	e.t.Helper()
	files := filesys.MakeFsInMemory()
	const deploy = "../../deploy"
	err := filepath.WalkDir(deploy, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return files.WriteFile(filepath.Join("/deploy", strings.TrimPrefix(path, deploy)), content)
	})
	if err != nil {
		e.t.Fatal(err)
	}
	const kustomization = "/deploy/federation/kustomization.yaml"
	content, err := files.ReadFile(kustomization)
	if err != nil {
		e.t.Fatal(err)
	}
	filled := strings.NewReplacer("PROJECT_ID=PROJECT_ID", "PROJECT_ID="+projectID,
		"//iam.googleapis.com/projects/PROJECT_NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER", provider,
	).Replace(string(content))
	settings := append([]string{
		"GME_ROUTING=" + mode.name,
		"GME_STS_ENDPOINT=http://" + googleAddress,
		"GME_IAM_CREDENTIALS_ENDPOINT=http://" + googleAddress,
		"GME_IAM_ENDPOINT=http://" + googleAddress,
		"GME_LOG_LEVEL=debug",
	}, mode.settings...)
	overlay := "resources: [../deploy/federation]\nconfigMapGenerator:\n- name: " + daemonName + "\n  namespace: " + daemonName +
		"\n  behavior: merge\n  literals:\n  - " + strings.Join(settings, "\n  - ") + "\n"
	if mode.patch != "" {
		overlay += "patches:\n- path: patch.yaml\n"
	}
	for path, content := range map[string]string{
		kustomization: filled, "/overlay/kustomization.yaml": overlay, "/overlay/patch.yaml": mode.patch,
	} {
		if err := files.WriteFile(path, []byte(content)); err != nil {
			e.t.Fatal(err)
		}
	}
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/overlay")
	if err != nil {
		e.t.Fatal(err)
	}
	manifests, err := objects.AsYaml()
	if err != nil {
		e.t.Fatal(err)
	}
	return manifests
}

// awaitDaemons returns when each node has a ready daemon.
func (e *environment) awaitDaemons() {
	e.t.Helper()
	ctx, cancel := within(e.t.Context(), readyWithin)
	defer cancel()
	wanted := int32(len(e.cluster.Nodes))
	err := cluster.Await(ctx, e.cluster.Client.AppsV1().DaemonSets(daemonName), daemonName, func(d *appsv1.DaemonSet) error {
		if d.Status.ObservedGeneration < d.Generation || d.Status.NumberReady < wanted || d.Status.UpdatedNumberScheduled < wanted {
			return fmt.Errorf("%d of %d daemons are ready", d.Status.NumberReady, wanted)
		}
		return nil
	})
	if err != nil {
		e.t.Fatalf("%v\n%s", err, e.daemonLogs())
	}
}

// uninstall leaves the cluster to the next routing mode, as the product's manual
// says, and nothing of this one.
func (e *environment) uninstall() {
	ctx, cancel := within(context.WithoutCancel(e.t.Context()), readyWithin)
	defer cancel()
	foreground := metav1.DeletePropagationForeground
	err := e.cluster.Client.AppsV1().DaemonSets(daemonName).Delete(ctx, daemonName, metav1.DeleteOptions{PropagationPolicy: &foreground})
	if err == nil {
		err = e.awaitNoPods(ctx, daemonName)
	}
	if err != nil {
		e.t.Errorf("uninstall: %v", err)
	}
	for _, n := range e.cluster.Nodes {
		if _, err := n.Run(ctx, e.program, "cleanup"); err != nil {
			e.t.Error(err)
		}
		for _, left := range []struct {
			trace   string
			command []string
		}{
			{"169.254.169.254", []string{"cat", "/proc/net/fib_trie"}},
			{daemonName, []string{"nft", "list", "tables"}},
			{daemonName, []string{"find", "/sys/fs/bpf"}},
		} {
			if said, err := n.Run(ctx, left.command...); err != nil || strings.Contains(string(said), left.trace) {
				e.t.Errorf("%s after cleanup: %v: %s", n.Name, err, said)
			}
		}
	}
}

func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("not within %s", d))
}
