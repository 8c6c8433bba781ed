package cluster

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// WithLibraries returns a program of this machine and the shared libraries that it is
// linked with, for [Image.Files]: each at its own path. Files that a program loads later
// (name service switch, interpreters' modules) are not included.
func WithLibraries(ctx context.Context, program string) (map[string]string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	if files[path], err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	output, err := exec.CommandContext(ctx, "ldd", path).CombinedOutput()
	if bytes.Contains(output, []byte("not a dynamic executable")) || bytes.Contains(output, []byte("statically linked")) {
		return files, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w: %s", path, err, output)
	}
	// name => path (address), or path (address) of the loader.
	for lines := bufio.NewScanner(bytes.NewReader(output)); lines.Scan(); {
		if strings.Contains(lines.Text(), "not found") {
			return nil, fmt.Errorf("ldd %s: %s", path, strings.TrimSpace(lines.Text()))
		}
		for _, word := range strings.Fields(lines.Text()) {
			if !filepath.IsAbs(word) {
				continue
			}
			if files[word], err = filepath.EvalSymlinks(word); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}
