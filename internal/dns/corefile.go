package dns

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// corefile is the part of a Corefile that decides whether and where a server block
// can be added.
type corefile struct {
	blocks  []block
	imports []token // the patterns of imports at the top level
	reloads bool    // a block has the plugin reload, which notices changes
}

// block is a server block.
type block struct {
	labels   []token
	bindLine int // the line of the plugin bind, or 0
}

// parse reads the server blocks. The error names the line that is not understood.
func parse(file, text string) (*corefile, error) {
	tokens, err := tokenize(file, text)
	if err != nil {
		return nil, err
	}
	f := &corefile{}
	for len(tokens) > 0 {
		if tokens[0].text == "import" && tokens[0].startsLine {
			if len(tokens) < 2 || tokens[1].startsLine || len(tokens) > 2 && !tokens[2].startsLine {
				return nil, refuse(NotUnderstood, file, tokens[0].line, "import takes one pattern, on its line")
			}
			f.imports = append(f.imports, tokens[1])
			tokens = tokens[2:]
			continue
		}
		open := slices.IndexFunc(tokens, func(t token) bool { return t.isBrace("{") })
		if open < 0 {
			return nil, refuse(NotUnderstood, file, tokens[0].line, "%q does not begin a block in braces; write { } around the server block", tokens[0].text)
		}
		if open == 0 || tokens[open].startsLine {
			return nil, refuse(NotUnderstood, file, tokens[open].line, "{ does not follow the names of a server block")
		}
		labels := tokens[:open]
		for i, label := range labels[1:] {
			if label.startsLine && !strings.HasSuffix(labels[i].text, ",") {
				return nil, refuse(NotUnderstood, file, labels[0].line, "%q does not begin a block in braces; write { } around the server block", labels[0].text)
			}
		}
		size, err := f.body(file, tokens[open:], labels)
		if err != nil {
			return nil, err
		}
		tokens = tokens[open+size:]
	}
	return f, nil
}

// body reads a block from its { to its }, and returns the number of its tokens.
func (f *corefile) body(file string, tokens []token, labels []token) (int, error) {
	b := block{labels: labels}
	depth := 0
	for i, t := range tokens {
		switch {
		case t.isBrace("{"):
			if i+1 < len(tokens) && !tokens[i+1].startsLine {
				return 0, refuse(NotUnderstood, file, t.line, "{ is not the last word of its line")
			}
			depth++
		case t.isBrace("}"):
			if !t.startsLine {
				return 0, refuse(NotUnderstood, file, t.line, "} is not the first word of its line")
			}
			if depth--; depth == 0 {
				if i+1 < len(tokens) && !tokens[i+1].startsLine {
					return 0, refuse(NotUnderstood, file, t.line, "} is not the last word of its line")
				}
				if !strings.HasPrefix(labels[0].text, "(") { // a snippet is not a server block
					f.blocks = append(f.blocks, b)
				}
				return i + 1, nil
			}
		case depth == 1 && t.startsLine && t.text == "bind":
			b.bindLine = t.line
		case depth == 1 && t.startsLine && t.text == "reload":
			f.reloads = true
		}
	}
	return 0, refuse(NotUnderstood, file, tokens[0].line, "the block's { is not closed")
}

// zone is a parsed label of a server block: dns://example.org.:53.
type zone struct{ scheme, name, port string }

func parseZone(label string) zone {
	z := zone{port: "53"}
	label = strings.TrimSuffix(label, ",")
	if scheme, rest, found := strings.Cut(label, "://"); found {
		z.scheme, label = scheme, rest
	}
	if i := strings.LastIndexByte(label, ':'); i >= 0 {
		label, z.port = label[:i], label[i+1:]
	}
	z.name = strings.ToLower(strings.TrimSuffix(label, "."))
	return z
}

// rootPorts returns the ports of the server blocks for the root, to which the
// cluster's pods send queries, in their order.
func (f *corefile) rootPorts(file string) ([]string, error) {
	var ports []string
	for _, b := range f.blocks {
		for _, label := range b.labels {
			z := parseZone(label.text)
			if z.name != "" || z.scheme != "" && z.scheme != "dns" {
				continue
			}
			if n, err := strconv.ParseUint(z.port, 10, 16); err != nil || n == 0 {
				return nil, refuse(NotUnderstood, file, label.line, "the port of %q is not a number", label.text)
			}
			if b.bindLine != 0 {
				return nil, refuse(NotUnderstood, file, b.bindLine, "the server block binds its own addresses, so queries would not reach another block; add the names by hand, see docs/dns.md")
			}
			if !slices.Contains(ports, z.port) {
				ports = append(ports, z.port)
			}
		}
	}
	if len(ports) == 0 {
		return nil, refuse(NotUnderstood, file, 0, "there is no server block for the root, like .:53 { }")
	}
	return ports, nil
}

// checkNamesFree returns an error if a server block answers for one of our names.
func (f *corefile) checkNamesFree(file string) error {
	for _, b := range f.blocks {
		for _, label := range b.labels {
			if slices.Contains(names(), parseZone(label.text).name) {
				return refuse(Taken, file, label.line, "a server block already answers for %s; remove it, or keep it and do not install", label.text)
			}
		}
	}
	return nil
}

// importsCustom reports whether server blocks are imported from the user's ConfigMap,
// as on k3s and AKS, which overwrite the Corefile.
func (f *corefile) importsCustom(file string) (bool, error) {
	custom := false
	for _, t := range f.imports {
		if path.Base(t.text) != "*.server" || path.Base(path.Dir(t.text)) != "custom" {
			return false, refuse(NotUnderstood, file, t.line, "server blocks are imported from %s, where another block can answer for the names; add them by hand, see docs/dns.md", t.text)
		}
		custom = true
	}
	return custom, nil
}
