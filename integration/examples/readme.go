package examples

import (
	"errors"
	"fmt"
	"strings"
)

// Block is a block of commands of a README.
type Block struct {
	Line   int    // of its first command
	Text   string // its commands
	Reason string // why it is not run; empty if it is
}

const (
	fence     = "```"
	marker    = "<!-- not run:"
	markerEnd = "-->"
)

// Blocks are the blocks of a README between ```sh and ```, in their order. One
// behind a line <!-- not run: REASON --> has that reason. Blocks of other
// languages are no commands.
func Blocks(readme string) ([]Block, error) {
	var (
		blocks []Block
		inside bool   // of a fence
		shell  bool   // the fence is one of commands
		reason string // of the marker before
		opened int
		text   strings.Builder
	)
	number := 0
	for line := range strings.Lines(readme) {
		number++
		line = strings.TrimRight(line, "\r\n")
		switch {
		case inside && line == fence:
			if shell {
				blocks = append(blocks, Block{Line: opened + 1, Text: text.String(), Reason: reason})
			}
			inside, reason = false, ""
			text.Reset()
		case inside:
			text.WriteString(line + "\n")
		case strings.HasPrefix(line, fence):
			inside, opened = true, number
			shell = line == fence+"sh"
			if reason != "" && !shell {
				return nil, fmt.Errorf("line %d: only a block that begins with %ssh is run; remove the marker before it", number, fence)
			}
		case strings.HasPrefix(line, marker):
			if reason != "" {
				return nil, fmt.Errorf("line %d: a second marker before one block", number)
			}
			reason = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(line, marker), markerEnd))
			if reason == "" || !strings.HasSuffix(line, markerEnd) {
				return nil, fmt.Errorf("line %d: write %s REASON %s on one line", number, marker, markerEnd)
			}
		case strings.TrimSpace(strings.TrimLeft(line, " ")) != "" && reason != "":
			return nil, fmt.Errorf("line %d: between a marker and its block there may be nothing", number)
		case strings.HasPrefix(strings.TrimSpace(line), fence):
			return nil, fmt.Errorf("line %d: an indented fence; begin it in the first column", number)
		}
	}
	if inside {
		return nil, fmt.Errorf("line %d: the block that begins there has no end", opened)
	}
	if reason != "" {
		return nil, errors.New("a marker without a block behind it")
	}
	return blocks, nil
}
