package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"gke-metadata-emulator/integration/built"
	"gke-metadata-emulator/integration/kubernetes"
)

// module is a nested module in programs/ and the programs that are built of it.
type module struct {
	folder   string
	versions string // the module whose version is the programs'
	packages []string
	takes    string // to build, from nothing
	tags     string
	cgo      bool
	stamp    []string // variables that are set to the version
}

var modules = []module{
	{
		folder:   "kubernetes",
		versions: "k8s.io/kubernetes",
		packages: []string{"."},
		takes:    "about 5 minutes on 2 cores",
		stamp:    []string{"k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"},
	}, {
		folder:   "containerd",
		versions: "github.com/containerd/containerd/v2",
		packages: []string{
			"github.com/containerd/containerd/v2/cmd/containerd",
			"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
			"github.com/containerd/containerd/v2/cmd/ctr",
		},
		takes: "about 2 minutes on 2 cores",
		stamp: []string{"github.com/containerd/containerd/v2/version.Version"},
	}, {
		folder:   "runc",
		versions: "github.com/opencontainers/runc",
		packages: []string{"github.com/opencontainers/runc"},
		takes:    "about 20 seconds on 2 cores",
		tags:     "urfave_cli_no_docs,seccomp",
		cgo:      true, // its first steps are C; seccomp is what RuntimeDefault needs
	}, {
		folder:   "cni",
		versions: "github.com/containernetworking/plugins",
		packages: []string{
			"github.com/containernetworking/plugins/plugins/main/bridge",
			"github.com/containernetworking/plugins/plugins/main/ptp",
			"github.com/containernetworking/plugins/plugins/main/loopback",
			"github.com/containernetworking/plugins/plugins/ipam/host-local",
		},
		takes: "about 10 seconds on 2 cores",
	}, {
		folder:   "coredns",
		versions: "github.com/coredns/coredns",
		packages: []string{"."},
		takes:    "about 2 minutes on 2 cores",
	}, {
		folder:   "kubectl",
		versions: "k8s.io/kubectl",
		packages: []string{"."},
		takes:    "about 2 minutes on 2 cores",
		stamp:    []string{"k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"},
	},
}

// binaries says where the programs of a cluster are.
type binaries struct {
	kubernetes.Paths
	nodeComponents string // kubelet, kube-proxy, kube-controller-manager and kube-scheduler in one
	containerd     string // a folder
	runc           string
	cni            string // a folder
	coreDNS        string
	kubectl        string
}

// Build builds the programs that are not in the user's cache directory yet.
// Progress goes to log. Any number of processes may call it at once: one builds,
// the others wait for it.
func Build(ctx context.Context, log io.Writer) error {
	_, err := build(ctx, log)
	return err
}

func build(ctx context.Context, log io.Writer) (binaries, error) {
	paths, err := kubernetes.Binaries(ctx, log)
	if err != nil {
		return binaries{}, err
	}
	root, err := SourceRoot()
	if err != nil {
		return binaries{}, err
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		return binaries{}, fmt.Errorf("no place to keep the cluster's programs: %w; set HOME or XDG_CACHE_HOME", err)
	}
	b := builder{
		source: filepath.Join(root, "integration", "cluster", "programs"),
		cache:  filepath.Join(caches, "gke-metadata-emulator", "cluster"),
		log:    log,
	}
	folders := map[string]string{}
	for _, m := range modules {
		if folders[m.folder], err = b.module(ctx, m); err != nil {
			return binaries{}, fmt.Errorf("build %s: %w", m.folder, err)
		}
	}
	return binaries{
		Paths:          paths,
		nodeComponents: filepath.Join(folders["kubernetes"], "kubernetes"),
		containerd:     folders["containerd"],
		runc:           filepath.Join(folders["runc"], "runc"),
		cni:            folders["cni"],
		coreDNS:        filepath.Join(folders["coredns"], "coredns"),
		kubectl:        filepath.Join(folders["kubectl"], "kubectl"),
	}, nil
}

type builder struct {
	source string // folder of the nested modules
	cache  string
	log    io.Writer
}

// module returns the folder of the module's programs.
func (b builder) module(ctx context.Context, m module) (string, error) {
	key, err := b.key(ctx, m)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(b.cache, key)
	if there, err := exists(folder); there || err != nil {
		return folder, err
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return "", fmt.Errorf("%w; make it writable, or set XDG_CACHE_HOME", err)
	}
	unlock, err := built.Lock(ctx, folder+".lock", func() {
		fmt.Fprintf(b.log, "%s: another process is building it; waiting\n", key)
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if there, err := exists(folder); there || err != nil {
		return folder, err
	}
	return folder, b.build(ctx, m, folder)
}

// key names what the programs are made of: a change of any of it is another
// folder.
func (b builder) key(ctx context.Context, m module) (string, error) {
	hash := sha256.New()
	files, err := filepath.Glob(filepath.Join(b.source, m.folder, "*"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", filepath.Base(file), len(content), content)
	}
	toolchain, err := b.output(ctx, m, "env", "GOVERSION")
	if err != nil {
		return "", err
	}
	version, err := b.output(ctx, m, "list", "-m", "-f", "{{.Version}}", m.versions)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(hash, m, toolchain)
	return fmt.Sprintf("%s-%s-%s-%s-%s-%x", m.folder, version, runtime.GOOS, runtime.GOARCH, toolchain, hash.Sum(nil)[:6]), nil
}

// build leaves a complete folder, or none.
func (b builder) build(ctx context.Context, m module, folder string) error {
	if m.cgo {
		if err := needForBuild(ctx, b.log); err != nil {
			return err
		}
	}
	version, err := b.output(ctx, m, "list", "-m", "-f", "{{.Version}}", m.versions)
	if err != nil {
		return err
	}
	var flags strings.Builder
	flags.WriteString("-s -w")
	for _, variable := range m.stamp {
		fmt.Fprintf(&flags, " -X %s=%s", variable, version)
	}
	unfinished, start := folder+".unfinished", time.Now()
	if err := os.RemoveAll(unfinished); err != nil { // of a process that was ended
		return err
	}
	if err := os.Mkdir(unfinished, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(b.log, "%s %s: building it from source, once (%s; much less when Go's build cache has parts of it)\n", m.folder, version, m.takes)
	args := []string{"build", "-v", "-trimpath", "-tags", m.tags, "-ldflags", flags.String(), "-o", unfinished + "/"}
	if err := built.Go(b.command(ctx, m, append(args, m.packages...)...), m.folder+" "+version, b.log); err != nil {
		return errors.Join(err, os.RemoveAll(unfinished))
	}
	if err := os.Rename(unfinished, folder); err != nil {
		return err
	}
	fmt.Fprintf(b.log, "%s %s: built in %s: %s\n", m.folder, version, time.Since(start).Round(time.Second), folder)
	return nil
}

func (b builder) output(ctx context.Context, m module, args ...string) (string, error) {
	out, err := b.command(ctx, m, args...).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("go %s for %s: %w", strings.Join(args, " "), m.folder, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// command runs Go in the module, for this machine whatever the caller's
// environment cross-compiles to.
func (b builder) command(ctx context.Context, m module, args ...string) *exec.Cmd {
	cgo := "CGO_ENABLED=0"
	if m.cgo {
		cgo = "CGO_ENABLED=1"
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(b.source, m.folder)
	cmd.Env = append(cmd.Environ(), cgo, "GOWORK=off", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	// Interrupted, Go ends its compilers and removes its work folder.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// SourceRoot walks up from the working directory, which go test sets to the
// tested package's folder, to the folder of the product's module.
func SourceRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			if slices.Contains(strings.Split(string(content), "\n"), "module gke-metadata-emulator") {
				return dir, nil
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("the module gke-metadata-emulator is not in %s or above it: the cluster's programs are built from its source; run this in a checkout", start)
		}
	}
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
