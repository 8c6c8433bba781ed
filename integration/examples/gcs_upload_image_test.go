package examples

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/buildcache"
	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/internal/checkout"
)

const installWithin = 10 * time.Minute

// goImage is the image of examples/gcs-upload/go/Dockerfile.
func goImage(t *testing.T, s *Fixture) cluster.Image {
	t.Helper()
	program, err := s.Cluster.BuildStatic(t.Context(), "examples/gcs-upload/go", ".", "gcs-upload-go")
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Image{
		Name: "docker.io/library/gcs-upload-go:latest", Files: map[string]string{"/gcs-upload": program},
		Entrypoint: []string{"/gcs-upload"}, User: "65532",
	}
}

// pythonImage is the image of examples/gcs-upload/python/Dockerfile, made of this
// machine's Python in place of a base image's: the same libraries by the same
// hashes, the same program.
func pythonImage(t *testing.T, s *Fixture) cluster.Image {
	t.Helper()
	folder := filepath.Join(sourceRoot(t), "examples/gcs-upload/python")
	asked := strings.Fields(output(t, "python3", "-c",
		"import os, sys, sysconfig; print(os.path.realpath(sys.executable), sysconfig.get_path('stdlib'), 'python%d.%d' % sys.version_info[:2])"))
	if len(asked) != 3 {
		t.Fatalf("python3 reports the version %q", asked)
	}
	program, library, name := asked[0], asked[1], asked[2]
	inside := "/usr/local/lib/" + name
	files := map[string]string{"/usr/local/bin/python": program, "/main.py": filepath.Join(folder, "main.py")}

	// The part of the standard library that a slim image has.
	left := []string{"site-packages", "dist-packages", "test", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip"}
	linked := []string{program}
	for _, entry := range entries(t, library) {
		if !slices.Contains(left, entry) && !strings.HasPrefix(entry, "config-") {
			files[inside+"/"+entry] = filepath.Join(library, entry)
		}
	}
	for _, entry := range entries(t, filepath.Join(library, "lib-dynload")) {
		if strings.HasSuffix(entry, ".so") && !strings.HasPrefix(entry, "_tkinter") {
			linked = append(linked, filepath.Join(library, "lib-dynload", entry))
		}
	}
	packages := pythonPackages(t, filepath.Join(folder, "requirements.txt"), name)
	linked = append(linked, modules(t, packages)...)
	// ldd prints name => path (address), and the loader's path. Libraries that a
	// package brings are found beside it.
	for _, word := range strings.Fields(output(t, "ldd", linked...)) {
		if filepath.IsAbs(word) && !strings.HasSuffix(word, ":") && !strings.HasPrefix(word, packages) {
			real, err := filepath.EvalSymlinks(word)
			if err != nil {
				t.Fatal(err)
			}
			files[word] = real
		}
	}

	// The libraries' own authorities are those of the fixture, as in its other images.
	for _, entry := range entries(t, packages) {
		if entry != "certifi" {
			files[inside+"/site-packages/"+entry] = filepath.Join(packages, entry)
		}
	}
	for _, entry := range entries(t, filepath.Join(packages, "certifi")) {
		files[inside+"/site-packages/certifi/"+entry] = filepath.Join(packages, "certifi", entry)
	}
	files[inside+"/site-packages/certifi/cacert.pem"] = s.CAFile
	return cluster.Image{
		Name: "docker.io/library/gcs-upload-python:latest", Files: files,
		Entrypoint: []string{"/usr/local/bin/python", "-u", "/main.py"}, User: "65532",
	}
}

// pythonPackages is a folder of the user's cache with the packages of a lock file. They are
// installed once for each content of it.
func pythonPackages(t *testing.T, requirements, python string) string {
	t.Helper()
	content, err := os.ReadFile(requirements)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := buildcache.Dir("examples")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cache, fmt.Sprintf("%s-%x", python, sha256.Sum256(content)))
	if err := installPackages(t.Context(), folder, requirements); err != nil {
		t.Fatal(err)
	}
	return folder
}

func installPackages(ctx context.Context, folder, requirements string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, installWithin, fmt.Errorf("not within %s", installWithin))
	defer cancel()
	return buildcache.Folder(ctx, folder, func() {}, func(ctx context.Context, unfinished string) error {
		pip := exec.CommandContext(ctx, "python3", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet",
			"--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", requirements, "--target", unfinished)
		if output, err := pip.CombinedOutput(); err != nil {
			return fmt.Errorf("pip: %w: %s", err, output)
		}
		return nil
	})
}

// modules are the compiled modules below a folder.
func modules(t *testing.T, folder string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".so") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func entries(t *testing.T, folder string) []string {
	t.Helper()
	found, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return names
}

// output is the output of a program of this machine.
func output(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", program, err, failed.Bytes())
	}
	return string(output)
}

func sourceRoot(t *testing.T) string {
	t.Helper()
	root, err := checkout.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}
