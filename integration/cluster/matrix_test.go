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

// matrix is what worked where: a column for each routing mode and CNI that ran,
// and a row for each check.
type matrix struct {
	columns []string
	cells   map[[2]string]string // by check and column
}

func newMatrix() *matrix { return &matrix{cells: map[[2]string]string{}} }

// ran notes how a check ended. Nothing is said of one that was skipped.
func (m *matrix) ran(t *testing.T, mode string, cni cluster.CNI, check, note string) {
	column := mode + ", " + string(cni)
	if !slices.Contains(m.columns, column) {
		m.columns = append(m.columns, column)
	}
	if t.Skipped() {
		return
	}
	cell := "yes"
	if t.Failed() {
		cell = "**no**"
	} else if note != "" {
		cell += ": " + note
	}
	m.cells[[2]string{check, column}] = cell
}

func (m *matrix) table(checks []check) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---%s|\n", strings.Join(m.columns, " | "), strings.Repeat("|---", len(m.columns)))
	for _, check := range checks {
		fmt.Fprintf(&b, "| %s |", check.name)
		for _, column := range m.columns {
			cell, ran := m.cells[[2]string{check.name, column}]
			if !ran {
				cell = "not run"
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	for _, mode := range routingModes {
		if mode.remark != "" {
			fmt.Fprintf(&b, "\nWith `%s` %s.\n", mode.name, mode.remark)
		}
	}
	return b.String()
}

// compare compares what ran with what the document says, or writes it there with
// -update. How long things took may differ.
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
		if withoutNotes(old) != withoutNotes(table) {
			t.Errorf("%s says\n%s\nbut it is\n%s\nIf that is meant: go test . -update", matrixFile, old, table)
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

func withoutNotes(table string) string {
	var b strings.Builder
	for line := range strings.Lines(table) {
		for cell := range strings.SplitSeq(strings.TrimSpace(line), "|") {
			word, _, _ := strings.Cut(cell, ":")
			b.WriteString(strings.TrimSpace(word) + "|")
		}
		b.WriteString("\n")
	}
	return b.String()
}
