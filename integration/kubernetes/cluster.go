package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gke-metadata-emulator/integration/internal/process"
	"gke-metadata-emulator/integration/internal/scratch"
)

// folderPrefix begins the names of the clusters' folders.
const folderPrefix = "gke-metadata-emulator-kubernetes-"

// upWithin bounds the start of a cluster, which takes 3 s on an idle machine.
const upWithin = 2 * time.Minute

// Config is the part that differs between clusters. The zero value is usable.
type Config struct {
	Log            io.Writer // progress of building the binaries, os.Stderr if nil
	APIServerFlags []string  // come after the package's own, so the last one counts
}

// Cluster is a running API server and its etcd. Fields are read-only.
type Cluster struct {
	Config *rest.Config        // of an administrator, without client-side limits
	Client clientset.Interface // with Config
	Issuer string              // of the KSA tokens

	dir   *scratch.Folder
	paths Paths
	flags []string
	port  *port

	mu        sync.Mutex // guards the fields below
	closed    bool
	etcd      *process.Process
	apiServer *process.Process // nil while stopped
}

// Start starts a cluster that ends with the test. It skips the test with -short.
func Start(t testing.TB) *Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a Kubernetes API server; not with -short")
	}
	c, err := Up(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Up starts a cluster, for a TestMain whose tests share it. It returns when the API server
// is ready. The caller closes the cluster. If the process ends without closing it, the
// cluster ends, too.
func Up(ctx context.Context, config Config) (*Cluster, error) {
	if config.Log == nil {
		config.Log = os.Stderr
	}
	paths, err := Binaries(ctx, config.Log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, upWithin, fmt.Errorf("not ready within %s", upWithin))
	defer cancel()
	c := &Cluster{Issuer: issuer, paths: paths, flags: config.APIServerFlags}
	if err := c.up(ctx); err != nil {
		return nil, fmt.Errorf("start a Kubernetes cluster: %w", errors.Join(err, c.Close()))
	}
	return c, nil
}

func (c *Cluster) up(ctx context.Context) error {
	removeAbandoned()
	var err error
	if c.dir, err = scratch.New(folderPrefix); err != nil {
		return err
	}
	if c.port, err = reservePort(); err != nil {
		return err
	}
	if err := c.makeCredentials(); err != nil {
		return err
	}
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	return c.StartAPIServer(ctx)
}

// Close ends the cluster and removes all traces of it. The error names a component that had
// ended on its own before.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	var errs []error
	for _, p := range []*process.Process{c.apiServer, c.etcd} {
		if p != nil {
			errs = append(errs, p.Crashed(), p.Kill())
		}
	}
	if c.port != nil {
		errs = append(errs, c.port.release())
	}
	if c.dir != nil {
		errs = append(errs, c.dir.Remove())
	}
	return errors.Join(errs...)
}

// file returns the path of one of the cluster's files.
func (c *Cluster) file(name string) string { return filepath.Join(c.dir.Path(), name) }

// removeAbandoned removes the folders that crashed tests left. Folders that it cannot
// remove may belong to another user and do no harm.
func removeAbandoned() {
	for _, folder := range scratch.Abandoned(folderPrefix) {
		_ = folder.Remove()
	}
}
