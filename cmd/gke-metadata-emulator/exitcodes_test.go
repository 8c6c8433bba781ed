package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandLine_ErrorIsExitCode2WithOneLineAndARemedy(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list.yaml")
	if err := os.WriteFile(list, []byte("identities:\n- {gsa: a, gsa: b}\n- {ksa: a, ksa: b}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args  string
		parts []string
	}{
		{"", []string{"a command is missing", "gke-metadata-emulator --help"}},
		{"bogus", []string{`the command "bogus" is not known`, "gke-metadata-emulator --help"}},
		{"bogus serve", []string{`the command "bogus" is not known`}},
		{"--bogus", []string{"unknown flag: --bogus", "gke-metadata-emulator --help"}},
		{"serve --bogus", []string{"unknown flag: --bogus", "gke-metadata-emulator serve --help"}},
		{"serve -x", []string{"unknown shorthand flag: 'x'", "gke-metadata-emulator serve --help"}},
		{"serve extra", []string{`takes no argument "extra"`, "gke-metadata-emulator serve --help"}},
		{"standalone --gsa a@b.c extra", []string{`takes no argument "extra"`}},
		{"fakegoogle extra", []string{`takes no argument "extra"`}},
		{"cleanup lo", []string{`takes no argument "lo"`}},
		{"serve --node-name", []string{"flag needs an argument: --node-name"}},
		{"serve --identity-wait soon", []string{"--identity-wait", `invalid duration "soon"`, "gke-metadata-emulator serve --help"}},
		{"fakegoogle --allow-all=perhaps", []string{"--allow-all", "gke-metadata-emulator fakegoogle --help"}},
		{"serve", []string{"--node-name: is needed", "spec.nodeName"}},
		{"serve --node-name node-1", []string{"--workload-identity-provider: is needed", "use --credentials=impersonation on a laptop"}},
		{"serve --node-name node-1 --credentials impersonation --project-id demo-project --project-number 1 --handover-file /run/tokens", []string{"--handover-key-file: is needed with --handover-file", "head -c 32 /dev/urandom"}},
		{"serve --node-name node-1 --credentials impersonation --project-id demo-project --project-number 1 --handover-key-file /key", []string{"--handover-file: is needed with --handover-key-file"}},
		{"standalone --credentials federation", []string{"--credentials: ", "use one of fake, impersonation"}},
		{"standalone --identities " + list, []string{"--identities: " + list, "see docs/standalone.md"}},
		{"standalone --credentials impersonation --project-id demo-project --project-number 1 --gsa a@b.c --source-credentials /nonexistent.json",
			[]string{"--source-credentials: ", "/nonexistent.json", "gcloud auth application-default login"}},
		{"fakegoogle --token-life 2h", []string{"--token-life: ", "use 1h or less"}},
		{"fakegoogle --listen 127.0.0.1:0 --state /nonexistent.yaml", []string{"--state: ", "/nonexistent.yaml"}},
		{"dns", []string{"a command is missing: install, uninstall or status"}},
		{"dns remove", []string{`dns knows no command "remove"`, "gke-metadata-emulator dns --help"}},
		{"dns install extra", []string{`takes no argument "extra"`, "gke-metadata-emulator dns install --help"}},
		{"dns install --yes --dry-run", []string{"--dry-run: contradicts --yes"}},
		{"dns status --configmap=", []string{"--configmap: is empty; leave it out for coredns"}},
		{"dns uninstall --kubeconfig /nonexistent.yaml", []string{"--kubeconfig: ", "/nonexistent.yaml"}},
		{"cleanup --interface=", []string{"--interface: is needed; use lo"}},
	} {
		t.Run(test.args, func(t *testing.T) {
			run1(t, nil, strings.Fields(test.args)...).oneLine(t, exitUsage, test.parts...)
		})
	}
}

func TestListen_AddressInUseIsExitCode2WithARemedy(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().String()
	for args, flag := range map[string]string{
		"standalone --admin-listen 127.0.0.1:0 --listen " + taken:                           "--listen: ",
		"standalone --listen 127.0.0.1:0 --admin-listen " + taken:                           "--admin-listen: ",
		"fakegoogle --listen " + taken:                                                      "--listen: ",
		"standalone --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --fake-listen " + taken: "--fake-listen: ",
	} {
		run1(t, nil, strings.Fields(args)...).oneLine(t, exitUsage, flag, taken, "address already in use", "give another port")
	}
}

func TestFakeGoogle_BadStateIsExitCode2(t *testing.T) {
	for _, content := range []string{"accounts: 7", "x: 1\ny: 2\nx: 1\ny: 2\n"} {
		state := filepath.Join(t.TempDir(), "state.yaml")
		if err := os.WriteFile(state, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		run1(t, nil, "fakegoogle", "--listen", "127.0.0.1:0", "--state", state).oneLine(t, exitUsage, "--state: "+state, "see docs/fakegoogle.md")
	}
}

func TestCleanup_FailureIsExitCode1(t *testing.T) {
	run1(t, nil, "cleanup", "--interface", "nosuch0").oneLine(t, exitFailed, "interface nosuch0")
}
