package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// StaticPod gives the node's kubelet the manifest of a pod that it runs by itself,
// until it is removed. The API server shows it as NAME-NODE.
func (n *Node) StaticPod(name string, manifest []byte) error {
	// The kubelet reads a file as soon as it is there.
	unfinished := filepath.Join(n.folder, name+".unfinished")
	if err := os.WriteFile(unfinished, manifest, 0o600); err != nil {
		return err
	}
	return os.Rename(unfinished, n.staticPod(name))
}

// RemoveStaticPod ends it; it is no error that it is not there.
func (n *Node) RemoveStaticPod(name string) error {
	if err := os.Remove(n.staticPod(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (n *Node) staticPod(name string) string {
	return n.file(filepath.Join("static-pods", name+".yaml"))
}
