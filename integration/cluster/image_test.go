package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The image's descriptors match its files, and its layer has each folder before the files
// in it.
func TestImage_IsAnOCILayout(t *testing.T) {
	source := t.TempDir()
	for name, content := range map[string]string{"program": "#!", "data/a": "1", "data/b/c": "2"} {
		path := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	image := Image{Name: "localhost/x:1", Entrypoint: []string{"/bin/program"}, Files: map[string]string{
		"/bin/program": filepath.Join(source, "program"), "/usr/share/data": filepath.Join(source, "data"),
	}}
	if err := image.write(file); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	layout := readTar(t, content)
	for name, blob := range layout {
		if sum, isBlob := strings.CutPrefix(name, "blobs/sha256/"); isBlob && sum != fmt.Sprintf("%x", sha256.Sum256(blob)) {
			t.Errorf("%s has another sum", name)
		}
	}
	var index struct{ Manifests []descriptor }
	unmarshal(t, layout["index.json"], &index)
	if got := index.Manifests[0].Annotations["io.containerd.image.name"]; got != image.Name {
		t.Errorf("the name is %q", got)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	unmarshal(t, blob(layout, index.Manifests[0]), &manifest)
	var config struct {
		Config struct{ Entrypoint []string }
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	unmarshal(t, blob(layout, manifest.Config), &config)
	if len(config.Rootfs.DiffIDs) != 1 || config.Rootfs.DiffIDs[0] != manifest.Layers[0].Digest || config.Config.Entrypoint[0] != "/bin/program" {
		t.Errorf("the config is %+v", config)
	}
	layer := readTar(t, blob(layout, manifest.Layers[0]))
	for name, want := range map[string]string{"bin/program": "#!", "usr/share/data/a": "1", "usr/share/data/b/c": "2", "usr/": "", "usr/share/": "", "usr/share/data/b/": ""} {
		if got, there := layer[name]; !there || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, there)
		}
	}
}

func blob(layout map[string][]byte, d descriptor) []byte {
	return layout["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
}

func unmarshal(t *testing.T, content []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatalf("%v: %q", err, content)
	}
}

// readTar fails if a folder comes after a file in it, or twice.
func readTar(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for archive := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := files[header.Name]; twice {
			t.Errorf("%s is there twice", header.Name)
		}
		for name := range files {
			if strings.HasSuffix(header.Name, "/") && strings.HasPrefix(name, header.Name) {
				t.Errorf("%s comes after %s", header.Name, name)
			}
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}
