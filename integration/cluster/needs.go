package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// need is a program of the machine or a C library, and the Debian package that
// it comes in.
type need struct {
	found    func(context.Context) bool
	name     string
	packaged string
}

func program(name, packaged string) need {
	return need{packaged: packaged, name: name, found: func(context.Context) bool {
		_, err := exec.LookPath(name)
		return err == nil
	}}
}

// needForBuild is what runc needs, which is partly written in C. Without libseccomp it
// refuses pods whose seccomp profile is RuntimeDefault.
func needForBuild(ctx context.Context, log io.Writer) error {
	return provide(ctx, log,
		program("gcc", "gcc"),
		program("pkg-config", "pkg-config"),
		need{name: "libseccomp's headers", packaged: "libseccomp-dev", found: func(ctx context.Context) bool {
			return exec.CommandContext(ctx, "pkg-config", "--exists", "libseccomp").Run() == nil
		}},
	)
}

// needForNodes are the programs that kube-proxy and the start of a node call.
func needForNodes(ctx context.Context, log io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster needs root, for namespaces and cgroups")
	}
	return provide(ctx, log, program("nft", "nftables"), program("mount", "mount"), program("nsenter", "util-linux"))
}

// provide installs missing packages if that needs no confirmation: as root on Debian and
// its derivatives.
func provide(ctx context.Context, log io.Writer, needs ...need) error {
	var missing, packages []string
	for _, n := range needs {
		if !n.found(ctx) {
			missing, packages = append(missing, n.name), append(packages, n.packaged)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	install := "apt-get install " + strings.Join(packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("%s not found; on Debian: %s", strings.Join(missing, ", "), install)
	}
	fmt.Fprintf(log, "%s not found: %s\n", strings.Join(missing, ", "), install)
	args := append([]string{"install", "--yes", "--no-install-recommends"}, packages...)
	err := aptGet(ctx, args...)
	if err != nil { // the lists of packages may be old, or not there
		err = errors.Join(aptGet(ctx, "update"), aptGet(ctx, args...))
	}
	return err
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(cmd.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
	}
	return nil
}
