package clients

import (
	"context"
	"path/filepath"
	"testing"
)

// node has Google's Node libraries, installed by npm from its lock file.
func node() client {
	offers := []string{"project", "zone", "email", "access", "id"}
	return client{name: "Node", does: doing(offers...), open: converse(offers...), install: func(t testing.TB) installed {
		const lockFile = "node/package-lock.json"
		files := []string{"node/package.json", lockFile, "node/main.mjs"}
		version := toolchain(t, "node", "--version") + " " + toolchain(t, "npm", "--version")
		folder := install(t, "node", version, files, func(ctx context.Context, folder string) error {
			if err := copyFiles(folder, files...); err != nil {
				return err
			}
			return command(ctx, folder, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		})
		return installed{
			version: locked(t, lockFile, `"node_modules/(gcp-metadata|google-auth-library|@google-cloud/storage|@google-cloud/storage/node_modules/google-auth-library)": \{\s*"version": "([^"]+)"`),
			program: []string{onPath(t, "node"), filepath.Join(folder, "main.mjs")},
		}
	}}
}
