package daemon

import (
	"cmp"
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
// library asks for no token where it does not hold "Google"; Go's takes it for a
// proof, and the network's answer for a hint.
const googleProductName = "Google Compute Engine\n"

const (
	// KindProductName is the file of the nodes of kind.
	KindProductName = "/kind/product_name"
	// OriginalProductName is on the node, in a folder that nothing else looks at.
	OriginalProductName = "/var/lib/gke-metadata-emulator/product_name"
)

// maxProductName is a page, as much as a file of sysfs can hold.
const maxProductName = 4096

// productName is a file whose content containers get to see as their machine's DMI
// product name, as /kind/product_name on the nodes of kind: a hook there copies it
// into each new container, below /sys.
type productName struct {
	file     string
	original string // where what the file held before is kept; not beside it, where the hook would copy it too
}

// present has the file say Google's name. What it held is kept before, so that a
// crash at any point leaves what restore needs.
func (p productName) present() error {
	f, held, err := p.open()
	if err != nil {
		return err
	}
	defer f.Close()
	if held == googleProductName {
		return nil
	}
	if err := p.keep(held); err != nil {
		return err
	}
	return p.write(f, googleProductName)
}

// restore has the file say what it said before, and leaves nothing else. It is no
// error that there is nothing to restore.
func (p productName) restore() error {
	held, err := os.ReadFile(p.original)
	if err == nil {
		err = p.restoreTo(string(held))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the DMI product name is not put back: %w; run this as root of the node, where %s can be written", err, p.file)
	}
	for _, ours := range []string{p.original, p.unfinished()} {
		if err := os.Remove(ours); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the DMI product name is put back, but what was kept of it is still there: %w", err)
		}
	}
	removeFolderOf(p.original)
	return nil
}

func (p productName) restoreTo(content string) error {
	f, _, err := p.open()
	if err != nil {
		return err
	}
	defer f.Close()
	return p.write(f, content)
}

// open opens the file for reading and writing, and reads it.
func (p productName) open() (*os.File, string, error) {
	// What is not there is not made: containers are started with what lies here.
	if info, err := os.Lstat(p.file); err != nil {
		return nil, "", err
	} else if !info.Mode().IsRegular() {
		return nil, "", fmt.Errorf("%s is not a regular file", p.file)
	}
	f, err := os.OpenFile(p.file, os.O_RDWR, 0)
	if err != nil {
		return nil, "", err
	}
	held, err := io.ReadAll(io.LimitReader(f, maxProductName+1))
	if err == nil && len(held) > maxProductName {
		err = fmt.Errorf("%s is too long to be a product name", p.file)
	}
	if err != nil {
		_ = f.Close()
		return nil, "", err
	}
	return f, string(held), nil
}

// write replaces the content in place: the file is mounted in other places, which a
// new one would not reach. It is never empty meanwhile.
func (p productName) write(f *os.File, content string) error {
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(content))); err != nil {
		return err
	}
	return f.Sync()
}

// keep writes down what the file held, once: what a crash has left half written is
// not what it held.
func (p productName) keep(held string) error {
	if _, err := os.Lstat(p.original); err == nil {
		return nil
	}
	if strings.Contains(strings.TrimSuffix(held, "\n"), "\n") {
		return fmt.Errorf("%s has several lines, so that it is no product name", p.file)
	}
	if err := os.MkdirAll(filepath.Dir(p.original), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(p.unfinished(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(held)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(p.unfinished(), p.original)
}

func (p productName) unfinished() string { return p.original + ".new" }

// presentProductName does what --dmi-product-name says. A node where it cannot be
// done still gets its tokens.
func (s *Serve) presentProductName(log *slog.Logger) {
	if s.DMIProductName == "" {
		return
	}
	if err := (productName{s.DMIProductName, s.DMIOriginal}).present(); err != nil {
		log.Warn("containers do not see Google's DMI product name; it works on nodes of kind on machines that have one, elsewhere leave out --dmi-product-name", "error", err)
		return
	}
	log.Info("new containers see Google's DMI product name", "file", s.DMIProductName)
}

func (s *Serve) checkProductName() error {
	if s.DMIProductName == "" {
		return nil
	}
	s.DMIOriginal = cmp.Or(s.DMIOriginal, OriginalProductName)
	return checkDMI(s.DMIProductName, s.DMIOriginal)
}

func checkDMI(file, original string) error {
	if !filepath.IsAbs(file) {
		return wrong("dmi-product-name", "give a whole path; on a node of kind it is "+KindProductName, "%q is not one", file)
	}
	if !filepath.IsAbs(original) || original == file {
		return wrong("dmi-original", "give the whole path of a file of its own", "%q is not one", original)
	}
	return nil
}
