package attest

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gke-metadata-emulator/internal/podtest"
)

// dropCapabilities removes capabilities from the test's locked thread until the test
// ends.
func dropCapabilities(t *testing.T, capabilities ...int) {
	t.Helper()
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	if err := unix.Capget(header, &had[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Capset(header, &had[0]); err != nil {
			t.Errorf("Capset: %v", err)
		}
	})
	fewer := had
	for _, c := range capabilities {
		fewer[c/32].Effective &^= 1 << (c % 32)
	}
	if err := unix.Capset(header, &fewer[0]); err != nil {
		t.Fatal(err)
	}
}

func TestErrors_NameMissingCapability(t *testing.T) {
	root := podtest.NewCgroup(t)
	pod := root.Pod(t, "burstable", cart)
	podtest.NewNetwork(t)
	cgroups, err := OpenCgroups(string(root))
	if err != nil {
		t.Fatal(err)
	}
	defer cgroups.Close()
	for _, test := range []struct {
		name    string
		without []int
		do      func() error
	}{
		{"DAC_READ_SEARCH", []int{unix.CAP_DAC_READ_SEARCH}, cgroups.Probe},
		{"BPF and NET_ADMIN", []int{unix.CAP_BPF, unix.CAP_SYS_ADMIN}, func() error { return openAndClose(cgroups) }},
		{"BPF and NET_ADMIN", []int{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN}, func() error { return openAndClose(cgroups) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			podtest.NewNetwork(t) // locks the thread
			dropCapabilities(t, test.without...)
			if err := test.do(); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), test.name) {
				t.Errorf("without %s: %v", test.name, err)
			}
		})
	}
	t.Run("no other capability is needed", func(t *testing.T) {
		podtest.NewNetwork(t)
		var others []int
		for c := range unix.CAP_LAST_CAP + 1 {
			if !slices.Contains([]int{unix.CAP_DAC_READ_SEARCH, unix.CAP_BPF, unix.CAP_NET_ADMIN}, c) {
				others = append(others, c)
			}
		}
		dropCapabilities(t, others...)
		if err := errors.Join(cgroups.Probe(), openAndClose(cgroups)); err != nil {
			t.Error(err)
		}
		a, err := New(Options{Policy: Require, Cgroups: cgroups})
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
	})
	_ = pod
}

func openAndClose(cgroups *Cgroups) error {
	r, err := NewRecorder(cgroups.Kubepods())
	if err != nil {
		return err
	}
	return r.Close()
}
