package clients

import (
	"context"
	"path/filepath"
	"testing"
)

// golang has Google's Go libraries, at the versions of its go.mod.
func golang() client {
	offers := []string{"project", "zone", "email", "access", "access-oauth2", "id"}
	return client{name: "Go", sometimes: goProbe, does: doing(offers...), open: converse(offers...), install: func(t testing.TB) installed {
		return installed{
			version: locked(t, "golang/go.mod", `(?m)^\t(cloud\.google\.com/go/(?:auth|compute/metadata|storage)|golang\.org/x/oauth2) (v\S+)$`),
			program: []string{goProgram(t, "golang", "golang", ".", "golang/main.go")},
		}
	}}
}

// goProbe is the request with which Google's Go libraries check whether there is a metadata
// server, unless the name is found in DNS before.
var goProbe = []string{"/"}

// goProgram is the path of a program that is built from a nested module.
func goProgram(t testing.TB, name, module, pkg string, sources ...string) string {
	t.Helper()
	files := append([]string{module + "/go.mod", module + "/go.sum"}, sources...)
	folder := install(t, name, toolchain(t, "go", "version"), files, func(ctx context.Context, folder string) error {
		return command(ctx, module, []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly"},
			"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(folder, name), pkg)
	})
	return filepath.Join(folder, name)
}
