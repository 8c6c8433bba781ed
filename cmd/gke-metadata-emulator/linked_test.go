package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each linked package costs memory on every node: the kernel reads a program's pages in
// blocks, including pages that never run.
func TestProgram_LinksNoUnneededPartOfKubernetes(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(output))
	if !slices.Contains(linked, "k8s.io/client-go/rest") {
		t.Fatal("go list does not list the packages that are linked")
	}
	for pkg, instead := range map[string]string{
		"k8s.io/client-go/kubernetes/scheme": "the codecs of all API groups; each client, informer and lister of client-go imports it: " +
			"use internal/apiserver",
		"k8s.io/client-go/discovery": "Kubernetes' OpenAPI documents: request the path without it",
		"k8s.io/client-go/gentype":   "client-go's fakes: use rest.RESTClient",
	} {
		if slices.Contains(linked, pkg) {
			t.Errorf("%s is linked, and with it %s", pkg, instead)
		}
	}
}

// Without the tag gRPC's debug pages can call any method by its name, so the linker
// keeps all methods: the program would be larger by a third.
func TestProgram_IsBuiltWithoutUnusedMethods(t *testing.T) {
	for _, file := range []string{"Makefile", "Dockerfile"} {
		content, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		built := 0
		for line := range strings.Lines(string(content)) {
			if strings.Contains(line, "go build ") && strings.Contains(line, "./cmd/gke-metadata-emulator") {
				built++
				if !strings.Contains(line, " -tags grpcnotrace ") {
					t.Errorf("%s builds without -tags grpcnotrace: %s", file, line)
				}
			}
		}
		if built != 1 {
			t.Errorf("%s builds the program %d times", file, built)
		}
	}
}
