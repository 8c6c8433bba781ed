package cluster

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gke-metadata-emulator/integration/buildcache"
	"gke-metadata-emulator/integration/internal/checkout"
	"gke-metadata-emulator/integration/kubernetes"
)

// module is a nested module in programs/ and the programs that are built of it.
type module struct {
	folder   string
	versions string // the module that determines the version of the programs
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
		cgo:      true, // its first steps are written in C; RuntimeDefault needs seccomp
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

// binaries are the paths of the programs of a cluster.
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
	root, err := checkout.Root()
	if err != nil {
		return binaries{}, err
	}
	cache, err := buildcache.Dir("cluster")
	if err != nil {
		return binaries{}, err
	}
	b := builder{
		source: filepath.Join(root, "integration", "cluster", "programs"),
		cache:  cache,
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
	waiting := func() { fmt.Fprintf(b.log, "%s: another process is building it; waiting\n", key) }
	return folder, buildcache.Folder(ctx, folder, waiting, func(ctx context.Context, unfinished string) error {
		return b.build(ctx, m, unfinished)
	})
}

// key names the inputs of the programs: any change of them leads to another folder.
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

// build builds the module's programs into the folder.
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
	start := time.Now()
	fmt.Fprintf(b.log, "%s %s: building it from source, once (%s; much less when Go's build cache has parts of it)\n", m.folder, version, m.takes)
	args := []string{"build", "-v", "-trimpath", "-tags", m.tags, "-ldflags", flags.String(), "-o", folder + "/"}
	cmd := buildcache.Command(ctx, filepath.Join(b.source, m.folder), m.cgo, append(args, m.packages...)...)
	if err := buildcache.Build(cmd, m.folder+" "+version, b.log); err != nil {
		return err
	}
	fmt.Fprintf(b.log, "%s %s: built in %s\n", m.folder, version, time.Since(start).Round(time.Second))
	return nil
}

func (b builder) output(ctx context.Context, m module, args ...string) (string, error) {
	return buildcache.Output(ctx, filepath.Join(b.source, m.folder), m.cgo, args...)
}
