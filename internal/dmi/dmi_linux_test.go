package dmi

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mounting runs f in its own mount namespace, which ends with f.
func mounting(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts files; needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so the thread ends
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// bind mounts a file at another path, read-only, as kind does.
func bind(t *testing.T, file, at string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, nil, 0o644), unix.Mount(file, at, "", unix.MS_BIND, ""),
		unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Error(err)
	}
}

// As on a node of kind: its own /sys shows the file itself, and a container's shows
// the copy that a hook makes when the container is created.
func TestProductName_IsSeenByContainersOfKind(t *testing.T) {
	p := newProductName(t, "kind\n")
	mounting(t, func() {
		folder := filepath.Dir(filepath.Dir(p.File))
		expect := func(sys, want string) {
			t.Helper()
			if got, err := os.ReadFile(sys); err != nil || string(got) != want {
				t.Errorf("%s holds %q, %v, want %q", sys, got, err, want)
			}
		}
		container := func(name string) (sys string) {
			rootfs := filepath.Join(folder, name)
			original, err := os.ReadFile(p.File)
			if err := errors.Join(err, os.Mkdir(rootfs, 0o755), os.WriteFile(filepath.Join(rootfs, "product_name"), original, 0o644)); err != nil {
				t.Error(err)
			}
			sys = filepath.Join(rootfs, "sys", "product_name")
			bind(t, filepath.Join(rootfs, "product_name"), sys)
			return sys
		}
		node := filepath.Join(folder, "sys", "product_name")
		bind(t, p.File, node)
		// The daemon has the file alone, by a mount of its own.
		ownMount := filepath.Join(folder, "daemon", "product_name")
		if err := errors.Join(os.Mkdir(filepath.Dir(ownMount), 0o755), os.WriteFile(ownMount, nil, 0o644), unix.Mount(p.File, ownMount, "", unix.MS_BIND, "")); err != nil {
			t.Error(err)
		}
		mounted := ProductName{File: ownMount, OriginalFile: p.OriginalFile}
		before := container("before")
		if err := mounted.override(); err != nil {
			t.Error(err)
		}
		after := container("after")
		expect(node, "Google Compute Engine\n")
		expect(after, "Google Compute Engine\n")
		expect(before, "kind\n")
		// cleanup runs on the node itself.
		if err := p.Restore(); err != nil {
			t.Error(err)
		}
		expect(node, "kind\n")
		expect(container("later"), "kind\n")
	})
}

func TestProductName_LogsThatTheFileIsReadOnly(t *testing.T) {
	p := newProductName(t, "kind\n")
	mounting(t, func() {
		readOnly := filepath.Join(filepath.Dir(filepath.Dir(p.File)), "daemon", "product_name")
		bind(t, p.File, readOnly)
		var log strings.Builder
		ProductName{File: readOnly, OriginalFile: p.OriginalFile, Log: slog.New(slog.NewTextHandler(&log, nil))}.Override()
		if got := log.String(); !strings.Contains(got, "read-only file system") || !strings.Contains(got, "level=WARN") {
			t.Errorf("log: %s", got)
		}
		p.expect(t, "kind\n")
		if _, err := os.Stat(p.OriginalFile); err == nil {
			t.Error("a copy of an unchanged file is stored")
		}
		if err := p.override(); err != nil {
			t.Error(err)
		}
		err := ProductName{File: readOnly, OriginalFile: p.OriginalFile}.Restore()
		if err == nil || !strings.Contains(err.Error(), "run cleanup as root on the node, where "+readOnly) {
			t.Errorf("error %v", err)
		}
		if err := p.Restore(); err != nil { // the copy is still there
			t.Error(err)
		}
		p.expect(t, "kind\n")
	})
}
