package facts

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

const goodAttributes = `instance:
  attributes:
    created-by: projects/1/instanceGroupManagers/pool
    enable-oslogin: TRUE
    port: 080
    empty: ""
    script: |
      #!/bin/sh
      true
project:
  attributes: {sshKeys: none}
`

func TestParseAttributes_ReturnsStringsAsWritten(t *testing.T) {
	got, err := ParseAttributes([]byte(goodAttributes))
	if err != nil {
		t.Fatal(err)
	}
	want := Attributes{
		instance: map[string]string{"created-by": "projects/1/instanceGroupManagers/pool", "enable-oslogin": "TRUE", "port": "080", "empty": "", "script": "#!/bin/sh\ntrue\n"},
		project:  map[string]string{"sshKeys": "none"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Attributes{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, empty := range []string{"", "# nothing\n", "instance:\n", "instance: {}\nproject: {attributes: }\n"} {
		if got, err := ParseAttributes([]byte(empty)); err != nil || len(got.instance)+len(got.project) > 0 {
			t.Errorf("%q: %v, %v", empty, got, err)
		}
	}
}

func TestParseAttributes_NamesTheLineOfAMistake(t *testing.T) {
	for document, want := range map[string]string{
		"instance:\n  attributes:\n\ta: b\n":               "line 3: found character that cannot start any token",
		"instance:\n  attributes: [a, b]\n":                "line 2: attributes must be a mapping of names to values",
		"instance:\n  attributes: a\n":                     "line 2: attributes must be a mapping of names to values",
		"instance:\n  atributes: {}\n":                     "line 2: unknown field atributes",
		"foo":                                              `line 1: expected "instance: {attributes: {NAME: VALUE}}"`,
		"instance: []\n":                                   `line 1: expected "instance: {attributes: {NAME: VALUE}}"`,
		"instance: {}\ninstance: {}\n":                     `line 2: mapping key "instance" already defined at line 1`,
		"nodes: {}\n":                                      "line 1: unknown field nodes",
		"instance:\n  attributes:\n    a: b\n    a/b: c\n": `line 4: the name "a/b" does not consist of 1 to 128 letters`,
		"instance:\n  attributes:\n    \"\": c\n":          `line 3: the name "" does not`,
		"project:\n  attributes:\n    " + strings.Repeat("x", 129) + ": c":             "line 3: the name",
		"instance:\n  attributes:\n    cluster-name: mine\n":                           "line 3: cluster-name is derived from other settings",
		"instance:\n  attributes:\n    a: b\n    c: d\n    a: e\n":                     "line 5: a is a duplicate",
		"instance:\n  attributes:\n    a:\n":                                           "line 3: the value of a is not a string",
		"instance:\n  attributes:\n    a:\n      b: c\n":                               "line 4: the value of a is not a string",
		"instance:\n  attributes:\n    a: &x b\n    c: *x\n":                           "line 4: the value of c is not a string",
		"instance:\n  attributes:\n    a: " + strings.Repeat("x", maxAttributeValue+1): "line 3: the value of a is longer than 262144 bytes",
		"# " + strings.Repeat("x", maxAttributesFile):                                  "the file is larger than 524288 bytes",
	} {
		_, err := ParseAttributes([]byte(document))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "struct") {
			t.Errorf("%.80q: %v, want %s", document, err, want)
		}
	}
	if _, err := ParseAttributes([]byte("project:\n  attributes: {cluster-name: a}\n")); err != nil {
		t.Errorf("a project may have an attribute of that name: %v", err)
	}
}

func TestAttributesFile_IsReloadedAndRefusedIfInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "attributes.yaml")
		write := func(document string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("instance:\n  attributes: {a: one}\n")
		initial, err := ParseAttributes([]byte("instance:\n  attributes: {a: one}\n"))
		if err != nil {
			t.Fatal(err)
		}
		log, registry := &bytes.Buffer{}, prometheus.NewRegistry()
		o := options()
		o.AttributesFile, o.Attributes, o.Metrics, o.Log = path, initial, registry, slog.New(slog.NewTextHandler(log, nil))
		facts := New(o)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- facts.Run(ctx) }()
		synctest.Wait()
		counted := func(result string) float64 { return changesCounted(t, registry, result) }
		// step writes the file, or removes it, and waits for more than one read: the
		// later ones read files that were read before.
		step := func(document, want string, taken, refused float64) {
			t.Helper()
			changed := facts.Changed()
			before := facts.Get().InstanceAttributes["a"]
			if document == "" {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				write(document)
			}
			time.Sleep(10 * time.Second) // of the bubble's clock
			synctest.Wait()
			if got := facts.Get().InstanceAttributes["a"]; got != want {
				t.Errorf("%q: a is %q, want %q", document, got, want)
			}
			select {
			case <-changed:
				if before == want {
					t.Errorf("%q: waiters are woken without a change", document)
				}
			default:
				if before != want {
					t.Errorf("%q: waiters are not woken", document)
				}
			}
			if gotTaken, gotRefused := counted("taken"), counted("refused"); gotTaken != taken || gotRefused != refused {
				t.Errorf("%q: %v taken and %v refused, want %v and %v", document, gotTaken, gotRefused, taken, refused)
			}
		}
		step("instance:\n  attributes: {a: one}\n", "one", 0, 0)
		step("instance:\n  attributes: {a: two}\n", "two", 1, 0)
		step("instance:\n  attributes: {a: [}\n", "two", 1, 1)
		step("instance:\n  attributes: {a: two}\n", "two", 1, 1)
		step("instance:\n  attributes: {a: [}\n", "two", 1, 2) // the first mistake, repeated
		step("instance:\n  attributes:\n    a: {}\n", "two", 1, 3)
		step("", "two", 1, 4)
		step("instance:\n  attributes: {a: three}\n", "three", 2, 4)
		step("instance:\n  attributes: {a: three} # a comment\n", "three", 2, 4)
		step("project:\n  attributes: {a: one}\n", "", 3, 4)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "line 3: the value of a is not a string") {
			t.Errorf("the log does not name the line:\n%s", log)
		}
	})
}

// changesCounted returns how many changes of the attributes file had a result.
func changesCounted(t *testing.T, registry *prometheus.Registry, result string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == "gme_attributes_changes_total" && metric.GetLabel()[0].GetValue() == result {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}
