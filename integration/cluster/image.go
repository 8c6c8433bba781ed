package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"gke-metadata-emulator/integration/internal/checkout"
)

// Image is a container image of files of this machine, in one layer.
type Image struct {
	Name       string            // in full: localhost/app:1, docker.io/library/app:latest
	Files      map[string]string // path in the image to a file or a folder of this machine
	Entrypoint []string
	Cmd        []string
	User       string // as in a Dockerfile
}

// Load gives images to all nodes.
func (c *Cluster) Load(ctx context.Context, images ...Image) error {
	ctx, cancel := bounded(ctx, "images")
	defer cancel()
	for _, image := range images {
		file := c.file(fmt.Sprintf("image-%x.tar", sha256.Sum256([]byte(image.Name))))
		if err := image.write(file); err != nil {
			return fmt.Errorf("image %s: %w", image.Name, err)
		}
		g, loading := errgroup.WithContext(ctx)
		for _, n := range c.Nodes {
			g.Go(func() error {
				_, err := n.Run(loading, filepath.Join(c.binaries.containerd, "ctr"), "--namespace=k8s.io", "images", "import", file)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return fmt.Errorf("image %s: %w", image.Name, err)
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// descriptor is how an OCI image layout refers to a file of it.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// write writes an OCI image layout, as a tar file.
func (i Image) write(file string) error {
	layer := file + ".layer"
	defer os.Remove(layer)
	if err := i.writeLayer(layer); err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	layout := tar.NewWriter(out)
	rootfs, err := addFile(layout, "application/vnd.oci.image.layer.v1.tar", layer)
	if err != nil {
		return err
	}
	config, err := addJSON(layout, "application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": i.Entrypoint, "Cmd": i.Cmd, "User": i.User, "Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{rootfs.Digest}},
	})
	if err != nil {
		return err
	}
	manifest, err := addJSON(layout, "application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []descriptor{rootfs},
	})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{"io.containerd.image.name": i.Name}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	if err != nil {
		return err
	}
	if err := addBytes(layout, "index.json", index); err != nil {
		return err
	}
	if err := addBytes(layout, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := layout.Close(); err != nil {
		return err
	}
	return out.Close()
}

func addFile(layout *tar.Writer, mediaType, file string) (descriptor, error) {
	in, err := os.Open(file)
	if err != nil {
		return descriptor{}, err
	}
	defer in.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, in)
	if err != nil {
		return descriptor{}, err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return descriptor{}, err
	}
	sum := fmt.Sprintf("%x", hash.Sum(nil))
	if err := layout.WriteHeader(&tar.Header{Name: "blobs/sha256/" + sum, Mode: 0o644, Size: size}); err != nil {
		return descriptor{}, err
	}
	_, err = io.Copy(layout, in)
	return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: size}, err
}

func addJSON(layout *tar.Writer, mediaType string, value any) (descriptor, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, err
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: int64(len(content))}, addBytes(layout, "blobs/sha256/"+sum, content)
}

func addBytes(archive *tar.Writer, name string, content []byte) error {
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := io.Copy(archive, bytes.NewReader(content))
	return err
}

// writeLayer writes the image's files. All belong to root.
func (i Image) writeLayer(file string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	layer := tar.NewWriter(out)
	made := map[string]bool{".": true}
	for _, target := range slices.Sorted(maps.Keys(i.Files)) {
		name := strings.TrimPrefix(path.Clean(target), "/")
		if err := addParents(layer, name, made); err != nil {
			return err
		}
		if err := addTree(layer, name, i.Files[target], made); err != nil {
			return err
		}
	}
	if err := layer.Close(); err != nil {
		return err
	}
	return out.Close()
}

func addParents(layer *tar.Writer, name string, made map[string]bool) error {
	parent := path.Dir(name)
	if made[parent] {
		return nil
	}
	if err := addParents(layer, parent, made); err != nil {
		return err
	}
	made[parent] = true
	return layer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: parent + "/", Mode: 0o755})
}

func addTree(layer *tar.Writer, name, source string, made map[string]bool) error {
	return filepath.WalkDir(source, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(file)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		inside := path.Join(name, filepath.ToSlash(relative))
		var link string
		if info.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(file); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		header.Name, header.Uid, header.Gid, header.Uname, header.Gname = inside, 0, 0, "", ""
		if info.IsDir() {
			if made[inside] {
				return nil
			}
			made[inside] = true
			header.Name += "/"
		}
		if err := layer.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		content, err := os.Open(file)
		if err != nil {
			return err
		}
		defer content.Close()
		_, err = io.Copy(layer, content)
		return err
	})
}

// BuildStatic builds a program that runs on an empty root, see [checkout.Build], and
// returns its path.
func (c *Cluster) BuildStatic(ctx context.Context, folder, pkg, name string, tags ...string) (string, error) {
	file := c.file(filepath.Join("programs", name))
	return file, checkout.Build(ctx, file, folder, pkg, tags...)
}
