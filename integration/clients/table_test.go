package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clients.md")
	order := []client{{name: "a"}, {name: "b"}}
	a := row{"a", "x 1, y 2", "reads", []string{"/", "one?a=b"}, []string{"serve"}}
	b := row{"b", "z 3", "writes", []string{"two"}, []string{"serve", "early"}}
	if err := write(path, order, map[string]row{"a": a, "b": b}); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := committed(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		row        row
		anyVersion bool
		differs    string // part of it
	}{
		"the same":           {row: a},
		"another order":      {row: row{"a", "x 1, y 2", "reads", []string{"one?a=b", "/"}, []string{"serve"}}},
		"another request":    {row: row{"a", "x 1, y 2", "reads", []string{"/", "one?a=c"}, []string{"serve"}}, differs: "`one?a=b`"},
		"one more request":   {row: row{"a", "x 1, y 2", "reads", []string{"/", "one?a=b", "two"}, []string{"serve"}}, differs: "`two`"},
		"another version":    {row: row{"a", "x 2, y 2", "reads", []string{"/", "one?a=b"}, []string{"serve"}}, differs: "x 2"},
		"of any version":     {row: row{"a", "x 2, y 2", "reads", []string{"/", "one?a=b"}, []string{"serve"}}, anyVersion: true},
		"another situation":  {row: row{"a", "x 1, y 2", "reads", []string{"/", "one?a=b"}, []string{"early"}}, differs: "early"},
		"it did another":     {row: row{"a", "x 1, y 2", "writes", []string{"/", "one?a=b"}, []string{"serve"}}, differs: "writes"},
		"a client not there": {row: row{name: "c"}, differs: "c has no row"},
	} {
		if differs := test.row.compare(rows[test.row.name], test.anyVersion); (differs == "") != (test.differs == "") || !strings.Contains(differs, test.differs) {
			t.Errorf("%s: %q", name, differs)
		}
	}
	// Of a client that did not run the row stays.
	b.requests = []string{"three"}
	if err := write(path, order, map[string]row{"b": b}); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(path)
	if want := strings.Replace(string(first), "`two`", "`three`", 1); err != nil || string(second) != want {
		t.Errorf("%v:\n%s", err, second)
	}
}

func TestTable_NormalizesRequests(t *testing.T) {
	log := `{"msg":"serving"}
{"msg":"request","method":"GET","uri":"/","status":200}
{"msg":"request","method":"GET","uri":"/computeMetadata/v1/instance/service-accounts/a@b.c/token?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fx%2Chttps://www.googleapis.com/auth/y","status":200}
{"msg":"request","method":"GET","uri":"/computeMetadata/v1/project/project-id","status":200}
{"msg":"request","method":"GET","uri":"/computeMetadata/v1/project/project-id","status":200}
{"msg":"request","method":"HEAD","uri":"/computeMetadata/v1/instance","status":301}
`
	got := strings.Join(distinct(accesses(t, log), "a@b.c", []string{"/"}), "\n")
	const want = `instance/service-accounts/EMAIL/token?scopes=x,y
project/project-id
HEAD instance (301)
/ (not every time)`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
