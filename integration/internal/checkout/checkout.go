package checkout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const module = "gke-metadata-emulator"

// Root returns the folder of the product's module. It walks up from the working
// directory, which go test sets to the folder of the tested package. runtime.Caller
// would not do: with -trimpath it returns no path of this machine.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			if first, _, _ := strings.Cut(string(content), "\n"); strings.TrimSpace(first) == "module "+module {
				return dir, nil
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("module %s not found in %s or above it: programs are built from its source; run this in a checkout", module, start)
		}
	}
}

// Build builds a Go program that needs no file of this machine to run. The program is
// built with the versions of the module in folder, which is relative to [Root].
func Build(ctx context.Context, file, folder, pkg string, tags ...string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", strings.Join(tags, ","), "-ldflags", "-s -w", "-o", file, pkg)
	cmd.Dir = filepath.Join(root, folder)
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s in %s: %w\n%s", pkg, cmd.Dir, err, output)
	}
	return nil
}

// BuildProduct builds the product as the Makefile and the Dockerfile do.
func BuildProduct(ctx context.Context, file string) error {
	return Build(ctx, file, ".", "./cmd/gke-metadata-emulator", "grpcnotrace")
}
