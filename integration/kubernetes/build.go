package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gke-metadata-emulator/integration/buildcache"
	"gke-metadata-emulator/integration/internal/checkout"
)

// Paths are the paths of the programs of a cluster.
type Paths struct {
	APIServer string
	Etcd      string
}

// program is one program that is built from a nested module of this package.
type program struct {
	name    string
	folder  string // of the nested module, within this package
	module  string // determines the version of the program
	pkg     string
	takes   string // to build, from nothing
	ldflags func(version string) string
}

var (
	apiServerProgram = program{
		name:    "kube-apiserver",
		folder:  "apiserver",
		module:  "k8s.io/kubernetes",
		pkg:     "k8s.io/kubernetes/cmd/kube-apiserver",
		takes:   "about 5 minutes on 2 cores",
		ldflags: kubernetesVersion,
	}
	etcdProgram = program{
		name:    "etcd",
		folder:  "etcd",
		module:  "go.etcd.io/etcd/server/v3",
		pkg:     "go.etcd.io/etcd/server/v3",
		takes:   "about a minute on 2 cores",
		ldflags: func(string) string { return "" },
	}
)

// kubernetesVersion stamps the version into the binary. Without it the API
// server calls itself v0.0.0-master.
func kubernetesVersion(version string) string {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	var flags strings.Builder
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		fmt.Fprintf(&flags, " -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
			pkg, version, major, minor)
	}
	return flags.String()
}

// Binaries returns the programs, after building those that are not in the
// user's cache directory yet. Progress goes to log. Any number of processes may
// call it at once: one builds, the others wait for it.
func Binaries(ctx context.Context, log io.Writer) (Paths, error) {
	root, err := checkout.Root()
	if err != nil {
		return Paths{}, err
	}
	cache, err := buildcache.Dir("kubernetes")
	if err != nil {
		return Paths{}, err
	}
	b := builder{
		source: filepath.Join(root, "integration", "kubernetes"),
		cache:  cache,
		log:    log,
	}
	var paths Paths
	if paths.Etcd, err = b.binary(ctx, etcdProgram); err != nil {
		return Paths{}, err
	}
	if paths.APIServer, err = b.binary(ctx, apiServerProgram); err != nil {
		return Paths{}, err
	}
	return paths, nil
}

type builder struct {
	source string // folder of this package
	cache  string
	log    io.Writer
}

func (b builder) binary(ctx context.Context, p program) (string, error) {
	version, err := b.output(ctx, p, "list", "-m", "-f", "{{.Version}}", p.module)
	if err != nil {
		return "", fmt.Errorf("version of %s: %w", p.module, err)
	}
	toolchain, err := b.output(ctx, p, "env", "GOVERSION")
	if err != nil {
		return "", fmt.Errorf("version of Go: %w", err)
	}
	folder := filepath.Join(b.cache, strings.Join([]string{version, runtime.GOOS, runtime.GOARCH, toolchain}, "-"))
	path := filepath.Join(folder, p.name)
	if exists, err := buildcache.Exists(path); exists || err != nil {
		return path, err
	}

	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("cache of the Kubernetes binaries: %w; make it writable, or set XDG_CACHE_HOME", err)
	}
	unlock, err := buildcache.Lock(ctx, path+".lock", func() {
		fmt.Fprintf(b.log, "%s %s: another process is building it; waiting\n", p.name, version)
	})
	if err != nil {
		return "", fmt.Errorf("build %s %s: %w", p.name, version, err)
	}
	defer unlock()
	if exists, err := buildcache.Exists(path); exists || err != nil {
		return path, err
	}
	if err := b.build(ctx, p, version, path); err != nil {
		return "", fmt.Errorf("build %s %s: %w", p.name, version, err)
	}
	return path, nil
}

// build leaves a complete binary at path, or nothing.
func (b builder) build(ctx context.Context, p program, version, path string) error {
	unfinished := path + ".unfinished"
	start := time.Now()
	fmt.Fprintf(b.log, "%s %s: building it from source, once (%s; much less when Go's build cache has parts of it)\n", p.name, version, p.takes)
	cmd := buildcache.Command(ctx, filepath.Join(b.source, p.folder), false, "build", "-v", "-trimpath", "-ldflags", "-s -w"+p.ldflags(version), "-o", unfinished, p.pkg)
	if err := buildcache.Build(cmd, p.name+" "+version, b.log); err != nil {
		return errors.Join(err, removed(unfinished))
	}
	if err := os.Rename(unfinished, path); err != nil {
		return err
	}
	fmt.Fprintf(b.log, "%s %s: built in %s: %s\n", p.name, version, time.Since(start).Round(time.Second), path)
	return nil
}

func (b builder) output(ctx context.Context, p program, args ...string) (string, error) {
	return buildcache.Output(ctx, filepath.Join(b.source, p.folder), false, args...)
}

func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
