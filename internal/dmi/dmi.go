package dmi

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// googleProductName is the DMI product name of a machine of Compute Engine. Ruby's
// library requests no token unless the name contains "Google"; Go's takes the name for
// proof that it runs on Google Cloud, and an answer from the network only for a hint.
const googleProductName = "Google Compute Engine\n"

// maxProductName is one page, the size limit of a sysfs file.
const maxProductName = 4096

// ProductName is a file that new containers see as the DMI product name of their
// machine, for example /kind/product_name: on the nodes of kind, a hook copies it into
// each new container, below /sys.
type ProductName struct {
	File string
	// OriginalFile stores the original content of File for [ProductName.Restore].
	// It must be in another folder, whose files the hook does not copy.
	OriginalFile string
	Log          *slog.Logger
}

// Override replaces the product name by Google's. The node gets tokens even if the
// name cannot be replaced, so an error is only logged.
func (p ProductName) Override() {
	if err := p.override(); err != nil {
		p.Log.Warn("containers do not see Google's DMI product name; --dmi-product-name works on kind nodes whose machine has a product name, remove it elsewhere", "error", err)
		return
	}
	p.Log.Info("new containers see Google's DMI product name", "file", p.File)
}

// override stores the original first, so that Restore works after a crash at any point.
func (p ProductName) override() error {
	f, content, err := p.open()
	if err != nil {
		return err
	}
	defer f.Close()
	if content == googleProductName {
		return nil
	}
	if err := p.saveOriginal(content); err != nil {
		return err
	}
	return p.write(f, googleProductName)
}

// Restore writes the original content back and removes the stored copy. It returns
// nil if there is nothing to restore.
func (p ProductName) Restore() error {
	original, err := os.ReadFile(p.OriginalFile)
	if err == nil {
		err = p.writeBack(string(original))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot restore the DMI product name: %w; run cleanup as root on the node, where %s is writable", err, p.File)
	}
	for _, file := range []string{p.OriginalFile, p.temporaryFile()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the DMI product name is restored, but its stored copy cannot be removed: %w", err)
		}
	}
	if folder := filepath.Dir(p.OriginalFile); filepath.Base(folder) == "gke-metadata-emulator" {
		_ = os.Remove(folder) // fails for a mount point, and for a folder with other files
	}
	return nil
}

func (p ProductName) writeBack(content string) error {
	f, _, err := p.open()
	if err != nil {
		return err
	}
	defer f.Close()
	return p.write(f, content)
}

// open opens the file for reading and writing, and reads it.
func (p ProductName) open() (*os.File, string, error) {
	// A missing file is not created: containers would be started with it.
	if info, err := os.Lstat(p.File); err != nil {
		return nil, "", err
	} else if !info.Mode().IsRegular() {
		return nil, "", fmt.Errorf("%s is not a regular file", p.File)
	}
	f, err := os.OpenFile(p.File, os.O_RDWR, 0)
	if err != nil {
		return nil, "", err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxProductName+1))
	if err == nil && len(content) > maxProductName {
		err = fmt.Errorf("%s is too long to be a product name", p.File)
	}
	if err != nil {
		_ = f.Close()
		return nil, "", err
	}
	return f, string(content), nil
}

// write replaces the content in place: mounts of the file would not show a new file
// of the same name. The file is never empty in between.
func (p ProductName) write(f *os.File, content string) error {
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(content))); err != nil {
		return err
	}
	return f.Sync()
}

// saveOriginal stores the original content once. After a crash, File may be partly
// overwritten and is not the original any more.
func (p ProductName) saveOriginal(content string) error {
	if _, err := os.Lstat(p.OriginalFile); err == nil {
		return nil
	}
	if strings.Contains(strings.TrimSuffix(content, "\n"), "\n") {
		return fmt.Errorf("%s has several lines, so it is no product name", p.File)
	}
	if err := os.MkdirAll(filepath.Dir(p.OriginalFile), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(p.temporaryFile(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(p.temporaryFile(), p.OriginalFile)
}

func (p ProductName) temporaryFile() string { return p.OriginalFile + ".new" }
