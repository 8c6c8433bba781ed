package dns

import (
	"strings"
	"unicode"
)

// token is a word of a Corefile.
type token struct {
	text       string
	line       int
	startsLine bool // it is the first token of its line
	quoted     bool
}

// isBrace reports whether the token is this brace, unquoted.
func (t token) isBrace(brace string) bool { return t.text == brace && !t.quoted }

// tokenize splits a Corefile into tokens as CoreDNS does (coredns/caddy
// caddyfile/lexer.go): at white space; a quotation mark begins a quoted token only at
// the beginning of a word, and ends it; # begins a comment anywhere outside of quotes.
// An open quotation mark is an error, although CoreDNS accepts it.
//
// Libraries parse Corefiles too (coredns/caddy caddyfile, corefile-migration). This
// package has its own parser because it must keep every byte of the text that is not
// ours, must know quoting and line numbers, for errors that name the line, and must
// refuse a text that it does not understand. The tests in internal/dns/coredns run its
// output in the real CoreDNS.
func tokenize(file, text string) ([]token, error) {
	var tokens []token
	var word strings.Builder
	line, wordLine := 1, 0 // wordLine is the line on which the word begins, 0 between words
	lastLine := 0          // the line on which the last token ends
	var quoted, escaped, comment bool
	endWord := func() {
		tokens = append(tokens, token{word.String(), wordLine, wordLine != lastLine, quoted})
		word.Reset()
		wordLine, lastLine = 0, line
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
			endWord()
			quoted = false
		case quoted:
			word.WriteRune(r)
		case unicode.IsSpace(r):
			if r != '\r' && wordLine != 0 {
				endWord()
			}
			comment = comment && r != '\n'
		case comment:
		case r == '#':
			comment = true
		case wordLine == 0 && r == '"':
			wordLine, quoted = line, true
		default:
			if wordLine == 0 {
				wordLine = line
			}
			word.WriteRune(r)
		}
		if r == '\n' {
			line++
		}
	}
	if quoted {
		return nil, refuse(NotUnderstood, file, wordLine, "a quotation mark is not closed")
	}
	if wordLine != 0 {
		endWord()
	}
	return tokens, nil
}
