package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/config"
)

// sample returns a value of a flag's type that is not its default.
func sample(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return strconv.FormatBool(f.DefValue == "false")
	case "duration":
		return "7s"
	}
	return "sample"
}

func TestEnvironment_SetsEachFlagAndCommandLineTakesPrecedence(t *testing.T) {
	for _, c := range commands() {
		for _, f := range flagsOf(c) {
			variable, value := config.EnvName(f.Name), sample(f)
			if want := "GME_" + strings.NewReplacer("-", "_").Replace(strings.ToUpper(f.Name)); variable != want || value == f.DefValue {
				t.Errorf("--%s is %s with the sample %s", f.Name, variable, value)
			}
			env := environ{variable: value, "GME_HELP": "true", "GME_UNKNOWN": "x"}
			if set, err := config.FromEnvironment(c.Flags(), env.lookup); err != nil || len(set) != 1 || f.Value.String() != value {
				t.Errorf("%s: %s=%s gives %q (%v, %v)", c.Name(), variable, value, f.Value, set, err)
			}
		}
	}
	for _, c := range commands() {
		for _, f := range flagsOf(c) {
			if err := c.ParseFlags([]string{"--" + f.Name + "=" + sample(f)}); err != nil {
				t.Fatal(err)
			}
			other := map[string]string{"bool": f.DefValue, "duration": "9s", "string": "other"}[f.Value.Type()]
			if _, err := config.FromEnvironment(c.Flags(), environ{config.EnvName(f.Name): other}.lookup); err != nil || f.Value.String() != sample(f) {
				t.Errorf("%s: --%s=%s and %s=%s give %q (%v)", c.Name(), f.Name, sample(f), config.EnvName(f.Name), other, f.Value, err)
			}
		}
	}
}

func TestEnvironment_ErrorNamesVariable(t *testing.T) {
	for _, test := range []struct {
		args  string
		env   environ
		parts []string
	}{
		{"serve", environ{"GME_IDENTITY_WAIT": "soon"}, []string{"GME_IDENTITY_WAIT: ", `invalid duration "soon"`}},
		{"serve", environ{"GME_IDENTITY_WAIT": ""}, []string{"GME_IDENTITY_WAIT: ", "invalid duration"}},
		{"fakegoogle", environ{"GME_ALLOW_ALL": "perhaps"}, []string{"GME_ALLOW_ALL: ", `"perhaps"`}},
		{"serve", environ{"GME_CREDENTIALS": "magic"}, []string{"GME_CREDENTIALS: --credentials: ", "use one of federation, impersonation, fake"}},
		{"standalone", environ{"GME_LISTEN": "8080"}, []string{"GME_LISTEN: --listen: ", "is not IP:PORT"}},
		{"standalone --credentials impersonation --project-id demo-project --project-number 1 --gsa a@b.c", environ{"GME_SOURCE_CREDENTIALS": "/nonexistent.json"},
			[]string{"GME_SOURCE_CREDENTIALS: --source-credentials: ", "/nonexistent.json"}},
	} {
		run1(t, test.env, strings.Fields(test.args)...).oneLine(t, exitUsage, test.parts...)
	}
	got := run1(t, environ{"GME_CREDENTIALS": "federation"}, "serve", "--credentials", "magic")
	got.oneLine(t, exitUsage, name+": --credentials: ")
}

// The variables in the manifests must be flags of serve, the command that they run.
func TestEnvironment_VariablesOfManifestsAreFlags(t *testing.T) {
	var known []string
	for _, c := range commands() {
		if c.Name() == "serve" {
			for _, f := range flagsOf(c) {
				known = append(known, config.EnvName(f.Name))
			}
		}
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "deploy", "*", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		manifest, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, variable := range regexp.MustCompile(`GME_\w*`).FindAllString(string(manifest), -1) {
			found++
			if !slices.Contains(known, variable) {
				t.Errorf("%s: serve has no flag for %s", file, variable)
			}
		}
	}
	if found == 0 {
		t.Error("no manifest sets a variable")
	}
}
