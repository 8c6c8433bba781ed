package dns

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// corefile is what has to be known of a Corefile to add a server block to it.
type corefile struct {
	blocks  []block
	imports []token // at the top level, the patterns
	reloads bool    // a block has the plugin that notices changes
}

// block is a server block.
type block struct {
	labels []token
	binds  int // line where it chooses addresses of its own, or 0
}

// parse reads the server blocks. The error names the line that is not understood.
func parse(file, text string) (*corefile, error) {
	all, err := tokens(file, text)
	if err != nil {
		return nil, err
	}
	f := &corefile{}
	for len(all) > 0 {
		if all[0].text == "import" && all[0].first {
			if len(all) < 2 || all[1].first || len(all) > 2 && !all[2].first {
				return nil, refuse(NotUnderstood, file, all[0].line, "import takes one pattern, on its line")
			}
			f.imports = append(f.imports, all[1])
			all = all[2:]
			continue
		}
		open := slices.IndexFunc(all, func(t token) bool { return t.isBrace("{") })
		if open < 0 {
			return nil, refuse(NotUnderstood, file, all[0].line, "%q begins no block in braces; write { } around the server block", all[0].text)
		}
		if open == 0 || all[open].first {
			return nil, refuse(NotUnderstood, file, all[open].line, "{ does not follow the names of a server block")
		}
		labels := all[:open]
		for i, label := range labels[1:] {
			if label.first && !strings.HasSuffix(labels[i].text, ",") {
				return nil, refuse(NotUnderstood, file, labels[0].line, "%q begins no block in braces; write { } around the server block", labels[0].text)
			}
		}
		size, err := f.body(file, all[open:], labels)
		if err != nil {
			return nil, err
		}
		all = all[open+size:]
	}
	return f, nil
}

// body reads a block from its { to its } and returns how many tokens that is.
func (f *corefile) body(file string, all []token, labels []token) (int, error) {
	b := block{labels: labels}
	depth := 0
	for i, t := range all {
		switch {
		case t.isBrace("{"):
			if i+1 < len(all) && !all[i+1].first {
				return 0, refuse(NotUnderstood, file, t.line, "{ is not the last word of its line")
			}
			depth++
		case t.isBrace("}"):
			if !t.first {
				return 0, refuse(NotUnderstood, file, t.line, "} is not the first word of its line")
			}
			if depth--; depth == 0 {
				if i+1 < len(all) && !all[i+1].first {
					return 0, refuse(NotUnderstood, file, t.line, "} is not the last word of its line")
				}
				if !strings.HasPrefix(labels[0].text, "(") { // a snippet serves nothing
					f.blocks = append(f.blocks, b)
				}
				return i + 1, nil
			}
		case depth == 1 && t.first && t.text == "bind":
			b.binds = t.line
		case depth == 1 && t.first && t.text == "reload":
			f.reloads = true
		}
	}
	return 0, refuse(NotUnderstood, file, all[0].line, "the { of the block is not closed")
}

// zone is a label of a server block, taken apart: dns://example.org.:53.
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

// rootPorts are where the cluster's pods ask, in their order.
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
			if b.binds != 0 {
				return nil, refuse(NotUnderstood, file, b.binds, "the server block binds addresses of its own, so that another one would not be asked; add the names by hand, see docs/dns.md")
			}
			if !slices.Contains(ports, z.port) {
				ports = append(ports, z.port)
			}
		}
	}
	if len(ports) == 0 {
		return nil, refuse(NotUnderstood, file, 0, "no server block is for the root, like .:53 { }")
	}
	return ports, nil
}

// free says whether nobody else answers for our names.
func (f *corefile) free(file string) error {
	for _, b := range f.blocks {
		for _, label := range b.labels {
			if slices.Contains(names(), parseZone(label.text).name) {
				return refuse(Taken, file, label.line, "a server block answers for %s already; remove it, or leave it as it is and do not install", label.text)
			}
		}
	}
	return nil
}

// hasCustom says whether server blocks are imported from a ConfigMap that is the
// user's, as on k3s and AKS, which write the Corefile themselves.
func (f *corefile) hasCustom(file string) (bool, error) {
	custom := false
	for _, t := range f.imports {
		if path.Base(t.text) != "*.server" || path.Base(path.Dir(t.text)) != "custom" {
			return false, refuse(NotUnderstood, file, t.line, "server blocks are imported from %s, where somebody else may answer for the names; add them by hand, see docs/dns.md", t.text)
		}
		custom = true
	}
	return custom, nil
}
