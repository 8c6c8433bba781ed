package buildcache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Dir returns the folder in the user's cache for a kind of programs.
func Dir(kind string) (string, error) {
	caches, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to keep %s in: %w; set HOME or XDG_CACHE_HOME", kind, err)
	}
	return filepath.Join(caches, "gke-metadata-emulator", kind), nil
}

// Folder makes a folder with the help of fill, unless it exists. The folder is
// complete or absent. If several processes call it at once, one fills the folder and
// the others wait; waiting is called in these.
func Folder(ctx context.Context, folder string, waiting func(), fill func(ctx context.Context, folder string) error) error {
	if exists, err := Exists(folder); exists || err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return fmt.Errorf("%w; make it writable, or set XDG_CACHE_HOME", err)
	}
	unlock, err := Lock(ctx, folder+".lock", waiting)
	if err != nil {
		return err
	}
	defer unlock()
	if exists, err := Exists(folder); exists || err != nil { // another process has just made it
		return err
	}
	unfinished := folder + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil { // of a process that was killed
		return err
	}
	if err := os.Mkdir(unfinished, 0o755); err != nil {
		return err
	}
	if err := fill(ctx, unfinished); err != nil {
		return errors.Join(err, os.RemoveAll(unfinished))
	}
	return os.Rename(unfinished, folder)
}

// Key names an installation of a program: the same files and the same toolchain have
// the same key.
func Key(name, toolchain string, files []string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, toolchain)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", file, len(content), content)
	}
	return fmt.Sprintf("%s-%x", name, hash.Sum(nil)[:8]), nil
}

// Exists reports whether there is a file or folder.
func Exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
