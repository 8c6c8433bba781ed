package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/internal/googlecheck"
)

const factsHeader = "| fact | mark | source | read | used in |"

var (
	linkDefinition = regexp.MustCompile(`(?m)^\[([^\]]+)\]: https://\S+$`)
	linkReference  = regexp.MustCompile(`\[([^\]]+)\]`)
	checkReference = regexp.MustCompile("check `([^`]+)`")
)

// factRows returns the cells of each row in the tables of facts, and the links that the
// document defines.
func factRows(text string) (rows [][]string, links []string) {
	inTable := false
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case line == factsHeader:
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable && !strings.HasPrefix(line, "|---"):
			cells := strings.Split(strings.Trim(line, "|"), " | ")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells)
		}
	}
	for _, m := range linkDefinition.FindAllStringSubmatch(text, -1) {
		links = append(links, m[1])
	}
	return rows, links
}

// factProblem returns the problem of a row; empty if it has none.
func factProblem(cells, links []string, exists func(string) bool) string {
	if len(cells) != 5 {
		return fmt.Sprintf("%d cells, want 5", len(cells))
	}
	fact, mark, source, read, usedIn := cells[0], cells[1], cells[2], cells[3], cells[4]
	if !strings.HasSuffix(fact, ".") {
		return "the fact is not a sentence"
	}
	if !slices.Contains([]string{"documented", "client", "observed", "inferred", "open"}, mark) {
		return "unknown mark " + mark
	}
	cited := linkReference.FindAllStringSubmatch(source, -1)
	if len(cited) == 0 {
		return "no source"
	}
	for _, m := range cited {
		if !slices.Contains(links, m[1]) && !strings.Contains(source, m[0]+"(") {
			return "the document defines no link [" + m[1] + "]"
		}
	}
	if mark == "open" && !checkReference.MatchString(source) {
		return "an open fact names its check"
	}
	if day, err := time.Parse(time.DateOnly, read); err != nil || day.After(time.Now().Add(24*time.Hour)) {
		return "no day on which the source was read: " + read
	}
	for path := range strings.SplitSeq(usedIn, ", ") {
		if name := strings.Trim(path, "`"); name == "" || !exists(name) {
			return "there is no " + path
		}
	}
	return ""
}

// errorCode matches a reason of google.rpc.ErrorInfo, and a code of RFC 6749 in backticks.
var errorCode = regexp.MustCompile("\\b[A-Z]+(?:_[A-Z]+)+\\b|`[a-z]+(?:_[a-z]+)+`")

// unusedCode returns an error code in the fact that none of the files in the column "used
// in" has; empty if there is none. Folders are not searched.
func unusedCode(fact, usedIn string) string {
	var code []byte
	for path := range strings.SplitSeq(usedIn, ", ") {
		if content, err := os.ReadFile(filepath.Join("..", strings.Trim(path, "`"))); err == nil {
			code = append(code, content...)
		}
	}
	for _, found := range errorCode.FindAllString(fact, -1) {
		if name := strings.Trim(found, "`"); code != nil && !bytes.Contains(code, []byte(name)) {
			return name
		}
	}
	return ""
}

func TestFacts_HaveMarksSourcesDatesAndUses(t *testing.T) {
	document, err := os.ReadFile("facts.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, links := factRows(string(document))
	if len(rows) < 80 {
		t.Fatalf("found only %d facts", len(rows))
	}
	for _, row := range rows {
		if problem := factProblem(row, links, exists); problem != "" {
			t.Errorf("%s: %s", row[0], problem)
			continue
		}
		if code := unusedCode(row[0], row[4]); code != "" {
			t.Errorf("%s: no file of the column \"used in\" has %s", row[0], code)
		}
	}
	for _, link := range links {
		if !strings.Contains(strings.ReplaceAll(string(document), "\n["+link+"]: ", ""), "["+link+"]") {
			t.Errorf("no fact uses the link [%s]", link)
		}
	}
}

func TestFacts_OpenFactsAndChecksAgree(t *testing.T) {
	document, err := os.ReadFile("facts.md")
	if err != nil {
		t.Fatal(err)
	}
	var named, checks []string
	for _, m := range checkReference.FindAllStringSubmatch(string(document), -1) {
		named = append(named, m[1])
	}
	for _, check := range googlecheck.Checks() {
		checks = append(checks, check.Name)
	}
	for _, name := range named {
		if !slices.Contains(checks, name) {
			t.Errorf("facts.md names the check %q, which does not exist", name)
		}
	}
	for _, name := range checks {
		if !slices.Contains(named, name) {
			t.Errorf("the check %q has no row in facts.md", name)
		}
	}
}

func TestFacts_FindsFaultyRows(t *testing.T) {
	links, there := []string{"page"}, func(name string) bool { return name == "tokens" }
	for row, want := range map[string]string{
		"A fact. | documented | [page] | 2026-11-30 | `tokens`":            "",
		"A fact. | open | [page]; check `a/b` | 2026-11-30 | `tokens`":     "",
		"A fact. | open | [page] | 2026-11-30 | `tokens`":                  "names its check",
		"A fact. | observed | [page]; check `a/b` | 2026-11-30 | `tokens`": "",
		"A fact | documented | [page] | 2026-11-30 | `tokens`":             "not a sentence",
		"A fact. | rumoured | [page] | 2026-11-30 | `tokens`":              "unknown mark",
		"A fact. | documented | somebody | 2026-11-30 | `tokens`":          "no source",
		"A fact. | documented | [other] | 2026-11-30 | `tokens`":           "defines no link",
		"A fact. | documented | [page] | November | `tokens`":              "no day",
		"A fact. | documented | [page] | 2926-11-30 | `tokens`":            "no day",
		"A fact. | documented | [page] | 2026-11-30 | `token`":             "there is no",
		"A fact. | documented | [page] | 2026-11-30":                       "4 cells",
	} {
		rows, _ := factRows(factsHeader + "\n|---|---|---|---|---|\n| " + row + " |\n")
		if got := factProblem(rows[0], links, there); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", row, got, want)
		}
	}
}
