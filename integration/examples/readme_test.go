package examples

import (
	"strings"
	"testing"
)

func TestBlocks_OfAReadme(t *testing.T) {
	blocks, err := Blocks("# Title\n\n```sh\na\nb\n```\n\n```yaml\nkind: Pod\n```\n\n<!-- not run: needs a browser -->\n\n```sh\nc\n```\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Block{{Line: 4, Text: "a\nb\n"}, {Line: 15, Text: "c\n", Reason: "needs a browser"}}
	if len(blocks) != len(want) || blocks[0] != want[0] || blocks[1] != want[1] {
		t.Errorf("%+v, want %+v", blocks, want)
	}
}

func TestBlocks_InvalidAreErrors(t *testing.T) {
	for name, test := range map[string]struct{ readme, says string }{
		"unclosed fence":        {"\n```sh\na\n", "line 2: the block that begins there has no end"},
		"marker without reason": {"<!-- not run: -->\n```sh\na\n```\n", "line 1: write <!-- not run: REASON -->"},
		"marker over two lines": {"<!-- not run: a\nb -->\n```sh\na\n```\n", "line 1: write"},
		"text behind a marker":  {"<!-- not run: x -->\ntext\n```sh\na\n```\n", "line 2: between a marker"},
		"marker of no commands": {"<!-- not run: x -->\n```yaml\na\n```\n", "line 2: only a block that begins with ```sh"},
		"two markers":           {"<!-- not run: x -->\n<!-- not run: y -->\n```sh\na\n```\n", "line 2: a second marker"},
		"marker at the end":     {"<!-- not run: x -->\n", "a marker without a block"},
		"indented fence":        {"- a\n  ```sh\n  b\n  ```\n", "line 2: an indented fence"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Blocks(test.readme); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want an error with %q", err, test.says)
			}
		})
	}
}
