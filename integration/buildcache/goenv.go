package buildcache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Command is a Go command in the folder of a module. It builds for this machine,
// even if the caller's environment cross-compiles.
func Command(ctx context.Context, module string, cgo bool, args ...string) *exec.Cmd {
	cgoEnabled := "CGO_ENABLED=0"
	if cgo {
		cgoEnabled = "CGO_ENABLED=1"
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(cmd.Environ(), cgoEnabled, "GOWORK=off", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	// On an interrupt, Go ends its compilers and removes its work folder.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// Output runs a Go command, see [Command], and returns its output without the
// surrounding white space.
func Output(ctx context.Context, module string, cgo bool, args ...string) (string, error) {
	out, err := Command(ctx, module, cgo, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w", strings.Join(args, " "), module, err)
	}
	return strings.TrimSpace(string(out)), nil
}
