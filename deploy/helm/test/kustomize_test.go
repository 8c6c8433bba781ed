package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// build returns the output of kubectl kustomize for a copy of a base, with each old text
// of its kustomization.yaml replaced by the new one.
func build(t *testing.T, base string, replace ...string) string {
	t.Helper()
	copied := t.TempDir()
	for _, folder := range []string{"base", "federation", "impersonation", "startup-taint"} {
		if err := os.CopyFS(filepath.Join(copied, folder), os.DirFS(filepath.Join(deploy, folder))); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(copied, base, "kustomization.yaml")
	document, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	document = []byte(strings.NewReplacer(replace...).Replace(string(document)))
	if err := os.WriteFile(file, document, 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(copied, base))
	if err != nil {
		t.Fatal(err)
	}
	all, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

func TestKustomize(t *testing.T) {
	for name, test := range map[string]struct {
		base    string
		replace []string
		holds   []string
		lacks   []string
	}{
		"federation": {
			base: "federation", replace: []string{placeholderProvider, provider},
			holds: []string{"expression: '[''https:'' + ''" + provider + "'']'", "'system:serviceaccount:gke-metadata-emulator:gke-metadata-emulator'", "- serviceaccounts/token", "GME_WORKLOAD_IDENTITY_PROVIDER: " + provider},
			lacks: []string{"PROVIDER''", "GME_STARTUP_TAINT", "- get\n  - patch\n"},
		},
		"another namespace": {
			base: "federation", replace: []string{"namespace: gke-metadata-emulator", "namespace: elsewhere"},
			holds: []string{"'system:serviceaccount:elsewhere:gke-metadata-emulator'", "namespace: elsewhere"},
			lacks: []string{"namespace: gke-metadata-emulator", "system:serviceaccount:gke-metadata-emulator:"},
		},
		"impersonation requests no tokens": {
			base: "impersonation", replace: nil,
			holds: []string{"kind: ClusterRole", "secretName: source-credentials", "mountPath: /credentials"},
			lacks: []string{"- serviceaccounts/token\n  verbs"},
		},
		"start-up taint": {
			base: "federation", replace: []string{"resources:\n", "components: [../startup-taint]\nresources:\n"},
			holds: []string{"name: GME_STARTUP_TAINT\n          value: gke-metadata-emulator/not-ready", "- get\n  - patch\n", "name: gke-metadata-emulator-startup-taint"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := build(t, test.base, test.replace...)
			for _, text := range test.holds {
				if !strings.Contains(all, text) {
					t.Errorf("%q is missing from:\n%s", text, all)
				}
			}
			for _, text := range test.lacks {
				if strings.Contains(all, text) {
					t.Errorf("%q must not be in:\n%s", text, all)
				}
			}
		})
	}
}
