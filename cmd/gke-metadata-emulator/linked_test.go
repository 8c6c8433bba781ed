package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is linked takes memory on every node: the kernel reads a program's pages in
// blocks, whether or not all of a block runs.
func TestTheProgramIsLinkedWithoutAllOfKubernetes(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(output))
	if !slices.Contains(linked, "k8s.io/client-go/rest") {
		t.Fatal("go list does not say what is linked")
	}
	for pkg, instead := range map[string]string{
		"k8s.io/client-go/kubernetes/scheme": "the codecs of all API groups, which client-go's clients, informers and listers of any group bring: " +
			"let internal/apiserver ask for what is needed",
		"k8s.io/client-go/discovery": "Kubernetes' OpenAPI documents: ask for a path by itself",
		"k8s.io/client-go/gentype":   "client-go's fakes: ask by rest.RESTClient",
	} {
		if slices.Contains(linked, pkg) {
			t.Errorf("%s is linked, which brings %s", pkg, instead)
		}
	}
}

// Without the tag gRPC's debug pages can call any method by its name, and the linker
// keeps all that there are: the program would be larger by a third.
func TestTheProgramIsBuiltWithoutMethodsThatNobodyCalls(t *testing.T) {
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
