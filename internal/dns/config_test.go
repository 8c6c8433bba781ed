package dns

import (
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/*.diff from the code")

func fixture(t testing.TB, name string) string {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("testdata", name+".Corefile"))
	if err != nil {
		t.Fatal(err)
	}
	return string(document)
}

// distributions are the unchanged Corefiles, and the content of the custom ConfigMap.
func distributions(t testing.TB) map[string]Config {
	return map[string]Config{
		"kind":     {fixture(t, "kind"), nil},
		"kubeadm":  {fixture(t, "kubeadm"), nil},
		"minikube": {fixture(t, "minikube"), nil},
		"k3s":      {fixture(t, "k3s"), nil},
		"aks":      {fixture(t, "aks"), map[string]string{}},
		"gardener": {fixture(t, "gardener"), map[string]string{"changeme.server": "# checkout the docs", "changeme.override": "# checkout the docs"}},
	}
}

func install(t testing.TB, c Config) Config {
	t.Helper()
	after, err := Install(c)
	if err != nil {
		t.Fatal(err)
	}
	return after
}

func uninstall(t testing.TB, c Config) Config {
	t.Helper()
	after, err := Uninstall(c)
	if err != nil {
		t.Fatal(err)
	}
	return after
}

func checkState(t testing.TB, c Config, want State) {
	t.Helper()
	if got, err := StateOf(c); got != want || err != nil {
		t.Errorf("state %d %v, want %d", got, err, want)
	}
}

func TestInstall_EachDistribution(t *testing.T) {
	for name, before := range distributions(t) {
		t.Run(name, func(t *testing.T) {
			checkState(t, before, Absent)
			after := install(t, before)
			checkState(t, after, Present)
			if second := install(t, after); !second.equal(after) {
				t.Errorf("a second install changes the configuration:\n%s", Diff(after, second))
			}
			if uninstalled := uninstall(t, after); !uninstalled.equal(before) {
				t.Errorf("uninstall leaves:\n%s", Diff(before, uninstalled))
			}
			if uninstalled := uninstall(t, before); !uninstalled.equal(before) {
				t.Errorf("uninstall without our block changes the configuration:\n%s", Diff(before, uninstalled))
			}
			if !Reloads(before) {
				t.Error("Reloads does not find the plugin reload")
			}
			file := filepath.Join("testdata", name+".diff")
			got := Diff(before, after)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-file +code; -update writes it):\n%s", file, diff)
			}
		})
	}
}

func TestInstall_KeepsOtherBytes(t *testing.T) {
	for name, corefile := range map[string]string{
		"no line end":              ".:53 {\n}",
		"a comment at the end":     ".:53 {\n}\n# the end",
		"empty lines":              "\n\n.:53 {\n}\n\n\n",
		"CRLF":                     ".:53 {\r\n    errors\r\n}\r\n",
		"tabs":                     ".:53 {\n\terrors\n}\n",
		"no port":                  ". {\n}\n",
		"several names":            "example.org, . {\n}\n",
		"names on several lines":   "example.org,\n.:53 {\n}\n",
		"several blocks":           "example.org {\n file db\n}\n.:53 {\n}\nexample.com:53 {\n}\n",
		"two ports":                ".:53 {\n}\n.:1053 {\n}\n",
		"a scheme":                 "dns://.:53 {\n}\ntls://.:853 {\n}\n",
		"a snippet":                "(common) {\n bind 127.0.0.1\n}\n.:53 {\n import common\n}\n",
		"braces in quotes":         ".:53 {\n template ANY ANY {\n answer \"{ } # } {\"\n }\n}\n",
		"braces in a comment":      ".:53 { # { {\n # }\n}\n",
		"an escaped quote":         ".:53 {\n log . \"a \\\" { b\"\n}\n",
		"quotes in a word":         ".:53 {\n log . a\"b\n}\n",
		"a byte order mark":        "\uFEFF.:53 {\n}\n",
		"environment":              ".:53 {\n forward . {$UPSTREAM}\n}\n",
		"our names, in hosts":      ".:53 {\n hosts {\n 169.254.169.254 metadata.google.internal\n fallthrough\n }\n}\n",
		"longer and shorter names": "x.metadata.google.internal {\n}\ngoogle.internal {\n}\n.:53 {\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			before := Config{Corefile: corefile}
			after := install(t, before)
			if !strings.HasPrefix(after.Corefile, corefile) {
				t.Errorf("install changes other bytes:\n%s", Diff(before, after))
			}
			checkState(t, after, Present)
			if uninstalled := uninstall(t, after); !uninstalled.equal(before) {
				t.Errorf("after uninstall %q, before install %q", uninstalled.Corefile, corefile)
			}
		})
	}
}

func TestInstall_UsesPortsOfRoot(t *testing.T) {
	after := install(t, Config{Corefile: "example.org:99 {\n}\n.:8053 .:53 {\n}\n"})
	if want := "\nmetadata.google.internal:8053 metadata:8053 metadata.google.internal:53 metadata:53 {\n"; !strings.Contains(after.Corefile, want) {
		t.Error(after.Corefile)
	}
}

func TestInstall_UpdatesOlderBlockInPlace(t *testing.T) {
	for _, mark := range []string{beginMark, beginMark + onNewLine} {
		before := Config{Corefile: ".:53 {\n}\n" + mark + "\nmetadata:53 {\n}\n" + endMark + "\nexample.org {\n}\n"}
		checkState(t, before, Outdated)
		after := install(t, before)
		checkState(t, after, Present)
		if !strings.HasPrefix(after.Corefile, ".:53 {\n}\n"+mark+"\nmetadata.google.internal:53") || !strings.HasSuffix(after.Corefile, endMark+"\nexample.org {\n}\n") {
			t.Error(after.Corefile)
		}
		if got, want := uninstall(t, after).Corefile, ".:53 {\n}\nexample.org {\n}\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The cluster has got a custom ConfigMap since the last install.
func TestInstall_MovesBlockToCustomConfigMap(t *testing.T) {
	before := install(t, Config{Corefile: ".:53 {\n}\n"})
	before.Corefile += "import custom/*.server\n"
	before.Custom = map[string]string{"mine.server": "example.org {\n}\n"}
	checkState(t, before, Outdated)
	after := install(t, before)
	if after.Corefile != ".:53 {\n}\nimport custom/*.server\n" || !strings.Contains(after.Custom[ServerKey], "metadata.google.internal:53") || len(after.Custom) != 2 {
		t.Errorf("after install %+v, want the block in the custom ConfigMap only", after)
	}
	if maps.Equal(before.Custom, after.Custom) {
		t.Error("install has changed the caller's map")
	}
}

func TestInstall_RefusesUnsafeConfigurations(t *testing.T) {
	const custom = ".:53 {\n}\nimport custom/*.server\n"
	for name, test := range map[string]struct {
		config Config
		reason Reason
		text   string
	}{
		"nothing":                     {Config{}, NotUnderstood, "Corefile: there is no server block for the root"},
		"no root":                     {Config{Corefile: "example.org {\n}\n"}, NotUnderstood, "there is no server block for the root"},
		"root by TLS alone":           {Config{Corefile: "tls://.:853 {\n}\n"}, NotUnderstood, "there is no server block for the root"},
		"no braces":                   {Config{Corefile: ".:53\nerrors\n"}, NotUnderstood, `Corefile, line 1: ".:53" does not begin a block in braces`},
		"no braces before a block":    {Config{Corefile: ".:53\nhealth {\n}\n"}, NotUnderstood, `line 1: ".:53" does not begin a block in braces`},
		"not closed":                  {Config{Corefile: ".:53 {\n health {\n}\n"}, NotUnderstood, "line 1: the block's { is not closed"},
		"closed twice":                {Config{Corefile: ".:53 {\n}\n}\n"}, NotUnderstood, "line 3"},
		"closed twice before a block": {Config{Corefile: ".:53 {\n}\n}\nexample.org {\n}\n"}, NotUnderstood, "line 3"},
		"a quote":                     {Config{Corefile: ".:53 {\n log \"\n}\n"}, NotUnderstood, "line 2: a quotation mark is not closed"},
		"one line":                    {Config{Corefile: ".:53 { errors }\n"}, NotUnderstood, "line 1: { is not the last word"},
		"a brace on its line":         {Config{Corefile: ".:53\n{\n}\n"}, NotUnderstood, "line 2"},
		"a nameless block":            {Config{Corefile: "{\n}\n"}, NotUnderstood, "line 1: { does not follow the names"},
		"more after the block":        {Config{Corefile: ".:53 {\n} x\n"}, NotUnderstood, "line 2: } is not the last word"},
		"more before the end":         {Config{Corefile: ".:53 {\n errors }\n"}, NotUnderstood, "line 2: } is not the first word"},
		"a port by environment":       {Config{Corefile: ".:{$PORT} {\n}\n"}, NotUnderstood, `line 1: the port of ".:{$PORT}" is not a number`},
		"bind":                        {Config{Corefile: ".:53 {\n errors\n bind 169.254.20.10\n}\n"}, NotUnderstood, "line 3: the server block binds its own addresses"},
		"another import":              {Config{Corefile: ".:53 {\n}\nimport more.conf\n"}, NotUnderstood, "line 3: server blocks are imported from more.conf"},
		"import of nothing":           {Config{Corefile: ".:53 {\n}\nimport\n"}, NotUnderstood, "line 3: import takes one pattern"},
		"name is taken":               {Config{Corefile: ".:53 {\n}\nmetadata.google.internal:53 {\n}\n"}, Taken, "line 3: a server block already answers for metadata.google.internal:53"},
		"name is taken, other form":   {Config{Corefile: ".:53 {\n}\nexample.org, dns://Metadata. {\n}\n"}, Taken, "line 3: a server block already answers for dns://Metadata."},
		"name is taken in custom":     {Config{custom, map[string]string{"mine.server": "metadata {\n}\n"}}, Taken, "mine.server, line 1: a server block already answers for metadata;"},
		"not understood in custom":    {Config{custom, map[string]string{"mine.server": "example.org {\n"}}, NotUnderstood, "mine.server, line 1"},
		"our key is taken":            {Config{custom, map[string]string{ServerKey: "example.org {\n}\n"}}, Taken, "gke-metadata-emulator.server: was not created by install"},
		"no begin":                    {Config{Corefile: ".:53 {\n}\n" + endMark + "\n"}, Damaged, "line 3: there is an end mark without a begin mark"},
		"no end":                      {Config{Corefile: ".:53 {\n}\n" + beginMark + "\n"}, Damaged, "there is a begin mark without an end mark"},
		"two blocks":                  {Config{Corefile: ".:53 {\n}\n" + beginMark + "\n" + endMark + "\n" + beginMark + "\n" + endMark + "\n"}, Damaged, "line 5: there is a second begin mark"},
		"a changed mark":              {Config{Corefile: ".:53 {\n}\n  " + beginMark + "\n" + endMark + "\n"}, Damaged, "line 3: a mark has been changed"},
		"marks within a block":        {Config{Corefile: ".:53 {\n" + beginMark + "\n" + endMark + "\n}\n"}, Damaged, "our block has been moved"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Install(test.config)
			var refusal *Error
			if !errors.As(err, &refusal) {
				t.Fatalf("error %v, want an *Error", err)
			}
			if refusal.Reason != test.reason || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("reason %d, %q; want %d, %q", refusal.Reason, err, test.reason, test.text)
			}
		})
	}
}

// Install refuses a Corefile, or keeps all of its bytes, and Uninstall restores it.
func FuzzInstall(f *testing.F) {
	for _, c := range distributions(f) {
		f.Add(c.Corefile, c.Custom["changeme.server"], c.Custom != nil)
	}
	f.Add(".:53 {\n}", "example.org {\n}", true)
	f.Add(".:53 {\n}\n"+beginMark+"\nmetadata {\n}\n"+endMark+"\nexample.org {\n}\n", "", false)
	f.Fuzz(func(t *testing.T, corefile, custom string, has bool) {
		before := Config{Corefile: corefile}
		if has {
			before.Custom = map[string]string{"mine.server": custom}
		}
		clean, err := Uninstall(before)
		if err != nil {
			return
		}
		after, err := Install(before)
		if err != nil {
			return
		}
		checkState(t, after, Present)
		if uninstalled := uninstall(t, after); !uninstalled.equal(clean) {
			t.Errorf("after uninstall %q, want %q", uninstalled, clean)
		}
		if has && after.Custom["mine.server"] != custom {
			t.Errorf("the user's server block is %q, want %q", after.Custom["mine.server"], custom)
		}
		if second := install(t, after); !second.equal(after) {
			t.Errorf("after a second install %q, want %q", second, after)
		}
		if before, now := countBlocks(t, clean.Corefile), countBlocks(t, after.Corefile); after.Corefile != clean.Corefile && now != before+1 {
			t.Errorf("%d server blocks, before install %d", now, before)
		}
	})
}

func countBlocks(t *testing.T, text string) int {
	f, err := parse(Corefile, text)
	if err != nil {
		t.Fatal(err)
	}
	return len(f.blocks)
}
