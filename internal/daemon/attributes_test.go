package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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

func TestAttributesAreTextsAsTheyStandInTheFile(t *testing.T) {
	got, err := parseAttributes([]byte(goodAttributes))
	if err != nil {
		t.Fatal(err)
	}
	want := attributes{
		instance: map[string]string{"created-by": "projects/1/instanceGroupManagers/pool", "enable-oslogin": "TRUE", "port": "080", "empty": "", "script": "#!/bin/sh\ntrue\n"},
		project:  map[string]string{"sshKeys": "none"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(attributes{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, empty := range []string{"", "# nothing\n", "instance:\n", "instance: {}\nproject: {attributes: }\n"} {
		if got, err := parseAttributes([]byte(empty)); err != nil || len(got.instance)+len(got.project) > 0 {
			t.Errorf("%q: %v, %v", empty, got, err)
		}
	}
}

func TestABadFileOfAttributesIsRefusedWithItsLine(t *testing.T) {
	for document, want := range map[string]string{
		"instance:\n  attributes:\n\ta: b\n":                                           "line 3: found character that cannot start any token",
		"instance:\n  attributes: [a, b]\n":                                            "line 2: attributes are names with their values",
		"instance:\n  attributes: a\n":                                                 "line 2: attributes are names with their values",
		"instance:\n  atributes: {}\n":                                                 "line 2: field atributes not found",
		"instance: []\n":                                                               "line 1: cannot unmarshal",
		"nodes: {}\n":                                                                  "line 1: field nodes not found",
		"instance:\n  attributes:\n    a: b\n    a/b: c\n":                             `line 4: the name "a/b" is not of 1 to 128 letters`,
		"instance:\n  attributes:\n    \"\": c\n":                                      `line 3: the name "" is not`,
		"project:\n  attributes:\n    " + strings.Repeat("x", 129) + ": c":             "line 3: the name",
		"instance:\n  attributes:\n    cluster-name: mine\n":                           "line 3: cluster-name has its value from elsewhere",
		"instance:\n  attributes:\n    a: b\n    c: d\n    a: e\n":                     "line 5: a is here a second time",
		"instance:\n  attributes:\n    a:\n":                                           "line 3: the value of a is not a text",
		"instance:\n  attributes:\n    a:\n      b: c\n":                               "line 4: the value of a is not a text",
		"instance:\n  attributes:\n    a: &x b\n    c: *x\n":                           "line 4: the value of c is not a text",
		"instance:\n  attributes:\n    a: " + strings.Repeat("x", maxAttributeValue+1): "line 3: the value of a is longer than 262144 bytes",
		"# " + strings.Repeat("x", maxAttributes):                                      "it is larger than 524288 bytes",
	} {
		_, err := parseAttributes([]byte(document))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want %s", document, err, want)
		}
	}
	if _, err := parseAttributes([]byte("project:\n  attributes: {cluster-name: a}\n")); err != nil {
		t.Errorf("a project may have any: %v", err)
	}
}

func TestABadFileOfAttributesAtTheStartIsAFlagsFault(t *testing.T) {
	s := federation()
	s.AttributesFile = file(t, "instance:\n  attributes:\n    a: [b]\n")
	err := s.Complete()
	if want := "--attributes-file: " + s.AttributesFile + ": line 3: the value of a is not a text; see docs/attributes.md"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestAChangedFileOfAttributesIsTakenAndABadOneIsNot(t *testing.T) {
	path := file(t, "instance:\n  attributes: {a: one}\n")
	facts, log := &facts{}, &bytes.Buffer{}
	first, err := parseAttributes([]byte("instance:\n  attributes: {a: one}\n"))
	if err != nil {
		t.Fatal(err)
	}
	first.tell(&facts.now)
	r := newAttributesReloader(path, first, facts, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(log, nil)))
	// step writes the file, or removes it, and looks twice: the second look is at
	// what has been seen already.
	step := func(document, want string, taken, refused float64) {
		t.Helper()
		changed := facts.changed.Next()
		before := facts.get().InstanceAttributes["a"]
		if document == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		r.look()
		r.look()
		if got := facts.get().InstanceAttributes["a"]; got != want {
			t.Errorf("%q: a is %q, want %q", document, got, want)
		}
		select {
		case <-changed:
			if before == want {
				t.Errorf("%q: who waits is woken for nothing", document)
			}
		default:
			if before != want {
				t.Errorf("%q: nobody who waits is woken", document)
			}
		}
		if gotTaken, gotRefused := testutil.ToFloat64(r.loads.WithLabelValues("taken")), testutil.ToFloat64(r.loads.WithLabelValues("refused")); gotTaken != taken || gotRefused != refused {
			t.Errorf("%q: %v taken and %v refused, want %v and %v", document, gotTaken, gotRefused, taken, refused)
		}
	}
	step("instance:\n  attributes: {a: one}\n", "one", 0, 0)
	step("instance:\n  attributes: {a: two}\n", "two", 1, 0)
	step("instance:\n  attributes: {a: [}\n", "two", 1, 1)
	step("instance:\n  attributes: {a: two}\n", "two", 1, 1)
	step("instance:\n  attributes: {a: [}\n", "two", 1, 2) // as before, and yet again
	step("instance:\n  attributes:\n    a: {}\n", "two", 1, 3)
	step("", "two", 1, 4)
	step("instance:\n  attributes: {a: three}\n", "three", 2, 4)
	step("project:\n  attributes: {a: one}\n", "", 3, 4)
	if !strings.Contains(log.String(), "line 3: the value of a is not a text") {
		t.Errorf("the log does not name the line:\n%s", log)
	}
}
