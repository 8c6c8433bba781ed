package dns

import (
	"strings"
	"unicode"
)

// token is a word of a Corefile.
type token struct {
	text   string
	line   int
	first  bool // of its line
	quoted bool
}

// isBrace says whether the token opens or closes a block.
func (t token) isBrace(brace string) bool { return t.text == brace && !t.quoted }

// tokens splits as CoreDNS does (coredns/caddy caddyfile/lexer.go): at spaces; quotes
// only begin at the beginning of a word and end it; # comments wherever it stands
// outside of quotes. An open quote is not understood, where CoreDNS is lenient.
func tokens(file, text string) ([]token, error) {
	var all []token
	var word strings.Builder
	line, begun := 1, 0 // begun is the line of the word, 0 between words
	last := 0           // line that the last token ended on
	var quoted, escaped, comment bool
	end := func() {
		all = append(all, token{word.String(), begun, begun != last, quoted})
		word.Reset()
		begun, last = 0, line
	}
	for _, r := range strings.TrimPrefix(text, "\uFEFF") {
		switch {
		case quoted && escaped:
			if r != '"' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case quoted && r == '\\':
			escaped = true
		case quoted && r == '"':
			end()
			quoted = false
		case quoted:
			word.WriteRune(r)
		case unicode.IsSpace(r):
			if r != '\r' && begun != 0 {
				end()
			}
			comment = comment && r != '\n'
		case comment:
		case r == '#':
			comment = true
		case begun == 0 && r == '"':
			begun, quoted = line, true
		default:
			if begun == 0 {
				begun = line
			}
			word.WriteRune(r)
		}
		if r == '\n' {
			line++
		}
	}
	if quoted {
		return nil, refuse(NotUnderstood, file, begun, "a quotation mark is not closed")
	}
	if begun != 0 {
		end()
	}
	return all, nil
}
