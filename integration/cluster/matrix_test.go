package cluster_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"gke-metadata-emulator/integration/cluster"
)

var update = flag.Bool("update", false, "write the table in docs/routing.md")

const (
	matrixFile  = "../../docs/routing.md"
	matrixBegin = "<!-- generated: cd integration/cluster && go test . -update -->\n"
	matrixEnd   = "<!-- generated: end -->\n"
)

// matrix has the results of the checks: a column for each routing mode and CNI that ran,
// and a row for each check.
type matrix struct {
	columns []string
	cells   map[[2]string]string // by check and column
	single  []string             // rows of checks that are made once
}

func newMatrix() *matrix { return &matrix{cells: map[[2]string]string{}} }

// ran notes how a check ended.
func (m *matrix) ran(e *environment, mode string, cni cluster.CNI, check string) {
	column := mode + ", " + string(cni)
	if !slices.Contains(m.columns, column) {
		m.columns = append(m.columns, column)
	}
	m.cells[[2]string{check, column}] = cell(e)
}

// ranOnce notes how a check ended that is not made in each column.
func (m *matrix) ranOnce(e *environment, where, check string) {
	m.single = append(m.single, fmt.Sprintf("| %s | %s | %s |\n", check, where, cell(e)))
}

// cell is the result of a check: how it ended, how the pods were attested, and after a
// colon what can differ from run to run.
func cell(e *environment) string {
	output := "yes"
	if e.answer != "" {
		output = e.answer
	}
	switch {
	case e.t.Failed():
		return "**no**"
	case e.t.Skipped():
		output = notRun
	case len(e.proof) > 0:
		output += ", by " + strings.Join(e.proof, " and ")
	}
	if e.note != "" {
		output += ": " + e.note
	}
	return output
}

func (m *matrix) table(checks []check) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---%s|\n", strings.Join(m.columns, " | "), strings.Repeat("|---", len(m.columns)))
	for _, check := range checks {
		if check.once {
			continue
		}
		fmt.Fprintf(&b, "| %s |", check.name)
		for _, column := range m.columns {
			cell, ran := m.cells[[2]string{check.name, column}]
			if !ran {
				cell = notRun + ": the check before it ended the test"
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	if len(m.single) > 0 {
		b.WriteString("\n| check, made once | setting | result |\n|---|---|---|\n" + strings.Join(m.single, ""))
	}
	return b.String()
}

// compare compares the results with the document, or writes them there with -update.
// Durations can differ.
func (m *matrix) compare(t *testing.T, checks []check) {
	t.Helper()
	if len(m.columns) < len(cnis)*len(routingModes) {
		t.Logf("only %q ran, so the table in %s is not looked at", m.columns, matrixFile)
		return
	}
	content, err := os.ReadFile(matrixFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), matrixBegin)
	old, after, ends := strings.Cut(rest, matrixEnd)
	if found && !ends {
		t.Fatalf("%s: there is no line %q", matrixFile, matrixEnd)
	}
	table := m.table(checks)
	if !*update {
		if !same(old, table) {
			t.Errorf("%s has\n%s\nbut the result is\n%s\nIf that is intended, run: go test . -update", matrixFile, old, table)
		}
		return
	}
	if !found {
		if before == "" {
			before = "# Routing\n"
		}
		before += "\n## What runs on real nodes\n\n" +
			"Two nodes with kubelet, containerd, kube-proxy and CoreDNS; the columns are `--routing`\nand the CNI plugin of the pods. What the modes are: [routing-modes.md](routing-modes.md).\n\n"
	}
	if err := os.WriteFile(matrixFile, []byte(before+matrixBegin+table+matrixEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// same reports whether two tables agree, except for notes and for checks that one of them
// has not run: a machine may lack a client.
func same(a, b string) bool {
	return slices.EqualFunc(words(a), words(b), func(a, b []string) bool {
		return slices.EqualFunc(a, b, func(a, b string) bool { return a == b || a == notRun || b == notRun })
	})
}

const notRun = "not run"

// words are the cells of a table's lines, without their notes.
func words(table string) [][]string {
	var lines [][]string
	for line := range strings.Lines(table) {
		var cells []string
		for cell := range strings.SplitSeq(strings.TrimSpace(line), "|") {
			word, _, _ := strings.Cut(cell, ":")
			cells = append(cells, strings.TrimSpace(word))
		}
		lines = append(lines, cells)
	}
	return lines
}

func TestMatrix_ComparisonIgnoresNotes(t *testing.T) {
	table := func(cell string) string { return "| | address |\n|---|---|\n| curl | " + cell + " |\n" }
	for _, test := range []struct {
		other string
		same  bool
	}{
		{"yes, by record", true}, {"yes, by record: 2s", true}, {"not run: no curl", true},
		{"yes, by address", false}, {"yes", false}, {"**no**", false},
	} {
		if got := same(table("yes, by record: 1s"), table(test.other)); got != test.same {
			t.Errorf("%s: %v, want %v", test.other, got, test.same)
		}
	}
	if same(table("yes"), table("yes")+"| Node | yes |\n") {
		t.Error("a row more is the same")
	}
}
