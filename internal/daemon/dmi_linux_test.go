package daemon

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

// mounting runs f in a mount namespace of its own, which ends with it.
func mounting(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts files; needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// bind shows a file at another path, read-only, as kind does.
func bind(t *testing.T, file, at string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, nil, 0o644), unix.Mount(file, at, "", unix.MS_BIND, ""),
		unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Error(err)
	}
}

// As on a node of kind: its own /sys shows the file itself, and a container's shows
// the copy that a hook makes when the container is created.
func TestMountsOfTheProductNameShowGooglesName(t *testing.T) {
	p := names(t, "kind\n")
	mounting(t, func() {
		folder := filepath.Dir(filepath.Dir(p.file))
		expect := func(sys, want string) {
			t.Helper()
			if got, err := os.ReadFile(sys); err != nil || string(got) != want {
				t.Errorf("%s holds %q, %v, want %q", sys, got, err, want)
			}
		}
		container := func(name string) (sys string) {
			rootfs := filepath.Join(folder, name)
			held, err := os.ReadFile(p.file)
			if err := errors.Join(err, os.Mkdir(rootfs, 0o755), os.WriteFile(filepath.Join(rootfs, "product_name"), held, 0o644)); err != nil {
				t.Error(err)
			}
			sys = filepath.Join(rootfs, "sys", "product_name")
			bind(t, filepath.Join(rootfs, "product_name"), sys)
			return sys
		}
		node := filepath.Join(folder, "sys", "product_name")
		bind(t, p.file, node)
		// The daemon has the file alone, by a mount of its own.
		mine := filepath.Join(folder, "daemon", "product_name")
		if err := errors.Join(os.Mkdir(filepath.Dir(mine), 0o755), os.WriteFile(mine, nil, 0o644), unix.Mount(p.file, mine, "", unix.MS_BIND, "")); err != nil {
			t.Error(err)
		}
		mounted := productName{mine, p.original}
		before := container("before")
		if err := mounted.present(); err != nil {
			t.Error(err)
		}
		after := container("after")
		expect(node, "Google Compute Engine\n")
		expect(after, "Google Compute Engine\n")
		expect(before, "kind\n")
		// cleanup runs on the node itself.
		if err := p.restore(); err != nil {
			t.Error(err)
		}
		expect(node, "kind\n")
		expect(container("later"), "kind\n")
	})
}

func TestAProductNameThatCannotBeWrittenIsSaid(t *testing.T) {
	p := names(t, "kind\n")
	mounting(t, func() {
		mine := filepath.Join(filepath.Dir(filepath.Dir(p.file)), "daemon", "product_name")
		bind(t, p.file, mine)
		var log strings.Builder
		s := &Serve{DMIProductName: mine, DMIOriginal: p.original}
		s.presentProductName(slog.New(slog.NewTextHandler(&log, nil)))
		if got := log.String(); !strings.Contains(got, "read-only file system") || !strings.Contains(got, "level=WARN") {
			t.Errorf("the log says %s", got)
		}
		p.expect(t, "kind\n")
		if _, err := os.Stat(p.original); err == nil {
			t.Error("something is kept of a file that was not changed")
		}
		if err := p.present(); err != nil {
			t.Error(err)
		}
		err := (productName{mine, p.original}).restore()
		if err == nil || !strings.Contains(err.Error(), "run this as root of the node, where "+mine) {
			t.Errorf("cleanup says %v", err)
		}
		if err := p.restore(); err != nil { // what was kept is there still
			t.Error(err)
		}
		p.expect(t, "kind\n")
	})
}
