// Package docs_test answers one question: do the documents agree with the repository?
// It reads Markdown and file names only.
package docs_test

import (
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const root = ".."

// documents returns the Markdown files of the repository by their paths below root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), "."), entry.IsDir() && entry.Name() == "node_modules":
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		texts[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) < 20 {
		t.Fatalf("found only %d documents below %s", len(texts), root)
	}
	return texts
}

var (
	fenced     = regexp.MustCompile("(?ms)^```.*?^```$")
	inlineCode = regexp.MustCompile("`[^`\n]*`")
	heading    = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	linkText   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// anchors returns the fragments that GitHub gives to the headings of a document.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, linkText.ReplaceAllString(m[1], "$1"))
		unique := anchor
		for n := 1; found[unique]; n++ {
			unique = anchor + "-" + strconv.Itoa(n)
		}
		found[unique] = true
	}
	return found
}

// deadLinks returns the relative links of a document that lead nowhere.
func deadLinks(name string, texts map[string]string, exists func(string) bool) []string {
	var dead []string
	text := inlineCode.ReplaceAllString(fenced.ReplaceAllString(texts[name], ""), "")
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		to, err := url.Parse(m[1])
		if err == nil && to.IsAbs() {
			continue // other sites are not checked
		}
		target := name
		if err == nil && to.Path != "" {
			target = path.Join(path.Dir(name), to.Path)
		}
		document, isDocument := texts[target]
		switch {
		case err != nil, !isDocument && !exists(target):
			dead = append(dead, m[1])
		case to.Fragment != "" && !anchors(document)[to.Fragment]:
			dead = append(dead, m[1])
		}
	}
	return dead
}

func TestLinks_LeadToFilesAndHeadings(t *testing.T) {
	texts := documents(t)
	for name := range texts {
		for _, dead := range deadLinks(name, texts, exists) {
			t.Errorf("%s: no file or heading %s", name, dead)
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, name))
	return err == nil
}

func TestLinks_FindsDeadLinks(t *testing.T) {
	texts := map[string]string{
		"a.md":      "# Title\n\n## `--flag`, and more\n\n[self](#title) [flag](#--flag-and-more) [b](more/b.md#top) [folder](more) [site](https://example.com/x)\n```\n[code](nowhere)\n# Code\n```\n`[code](nowhere)`\n",
		"more/b.md": "# Top\n\n# Top\n\n[second](#top-1) [third](#top-2) [gone](../gone.md) [anchor](../a.md#code)\n",
	}
	folders := func(name string) bool { return name == "more" }
	if dead := deadLinks("a.md", texts, folders); len(dead) != 0 {
		t.Errorf("dead links in a.md: %q", dead)
	}
	if dead := strings.Join(deadLinks("more/b.md", texts, folders), " "); dead != "#top-2 ../gone.md ../a.md#code" {
		t.Errorf("dead links in b.md: %s", dead)
	}
}

// Flags, errors and charts refer to documents by their names, without a link.
func TestReferences_NameExistingDocuments(t *testing.T) {
	reference := regexp.MustCompile(`\bdocs/[a-z-]+\.md\b`)
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != "." && strings.HasPrefix(entry.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		switch path.Ext(name) {
		case ".go", ".yaml", ".yml", ".tpl", ".txt", ".md":
		default:
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		for _, document := range reference.FindAllString(string(text), -1) {
			if !exists(document) {
				t.Errorf("%s: no document %s", name, document)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestArchitecture_ListsEveryFolder(t *testing.T) {
	text, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{"", "internal"} {
		entries, err := os.ReadDir(filepath.Join(root, parent))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			name := path.Join(parent, entry.Name())
			switch {
			case !entry.IsDir(), strings.HasPrefix(entry.Name(), "."), name == "bin", name == "cmd", name == "internal":
				continue
			}
			if !strings.Contains(string(text), "| `"+name+"` |") {
				t.Errorf("architecture.md has no row for %s", name)
			}
		}
	}
}

// Readers search for these headings.
func TestHeadings_UseTheUsualWords(t *testing.T) {
	texts := documents(t)
	for name, wanted := range map[string][]string{
		"README.md":       {"prerequisites", "verify", "limitations"},
		"docs/install.md": {"prerequisites", "verify", "troubleshooting", "uninstall"},
	} {
		for _, anchor := range wanted {
			if !anchors(texts[name])[anchor] {
				t.Errorf("%s has no heading %q", name, anchor)
			}
		}
	}
}
