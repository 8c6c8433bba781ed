// Command test renders the kustomize bases of deploy/ from the Helm chart, which is
// the source of truth, and its documentation from values.yaml. It is in a module of
// its own to keep Helm from the product's dependencies. Run it in this folder.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := write("../.."); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

// write writes the generated files.
func write(deploy string) error {
	// The schema is written first: the chart must not be rendered with an old one.
	flags, err := schema(deploy)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(deploy, schemaFile), []byte(flags), 0o644); err != nil {
		return err
	}
	files, err := generated(deploy)
	if err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(deploy, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
