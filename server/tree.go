package server

import (
	"maps"
	"slices"
	"strings"
)

// Segments of a path in the endpoint table that represent several names.
const (
	accountSegment   = "{account}"
	attributeSegment = "{attribute}"
)

// node is a directory or a key of the metadata tree.
type node struct {
	segment  string
	key      *endpoint // nil for a directory
	children map[string]*node
}

func newTree(table []endpoint) *node {
	top := &node{children: map[string]*node{}}
	for i := range table {
		parent := top
		for segment := range strings.SplitSeq(table[i].path, "/") {
			child := parent.children[segment]
			if child == nil {
				child = &node{segment: segment, children: map[string]*node{}}
				parent.children[segment] = child
			}
			parent = child
		}
		parent.key = &table[i]
	}
	return top
}

func (n *node) sorted() []*node {
	return slices.SortedFunc(maps.Values(n.children), func(a, b *node) int { return strings.Compare(a.segment, b.segment) })
}

// names are the names under which the node is listed: its own, both names of the
// caller's account, or those of the operator's attributes.
func (n *node) names(q *request) ([]string, error) {
	switch {
	case n.segment == accountSegment:
		return q.accounts()
	case n.key != nil && n.key.attributes != nil:
		return slices.Sorted(maps.Keys(n.key.attributes(q.server.options.Facts()))), nil
	case n.absent(q):
		return nil, nil
	}
	return []string{n.segment}, nil
}

// absent reports whether the node is a directory for the operator's attributes only,
// and the operator has none.
func (n *node) absent(q *request) bool {
	attributes := n.children[attributeSegment]
	return attributes != nil && len(n.children) == 1 && len(attributes.key.attributes(q.server.options.Facts())) == 0
}

// entry is a child under one of its names.
type entry struct {
	child *node
	name  string
}

// entries are the children under all their names, sorted, but default comes first
// among the names of an account.
func (n *node) entries(q *request) ([]entry, error) {
	var entries []entry
	for _, child := range n.sorted() {
		names, err := child.names(q)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			entries = append(entries, entry{child, name})
		}
	}
	if n.children[attributeSegment] != nil {
		slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	}
	return entries, nil
}

// each calls visit for the entries in order.
func (n *node) each(q *request, visit func(child *node, name string) error) error {
	entries, err := n.entries(q)
	if err != nil {
		return err
	}
	for _, e := range entries {
		q.attribute = e.name
		if err := visit(e.child, e.name); err != nil {
			return err
		}
	}
	return nil
}

// redirect is the response to the directory's name without a slash.
func (n *node) redirect(q *request) (value, error) {
	if n.absent(q) {
		return nil, errNotFound
	}
	return nil, errRedirect
}

// value is the directory's listing, or with recursive=true its whole content: a JSON
// object, or lines with alt=text.
func (n *node) value(q *request) (value, error) {
	switch {
	case n.absent(q):
		return nil, errNotFound
	case !q.recursive():
		return n.listing(q)
	case q.query.Get("alt") == "text":
		var lines list
		err := n.appendLines(q, "", &lines)
		return lines, err
	}
	object, err := n.object(q)
	return document{object}, err
}

// listing names the children. The names of directories end in a slash.
func (n *node) listing(q *request) (value, error) {
	names := list{}
	err := n.each(q, func(child *node, name string) error {
		if child.key == nil {
			name += "/"
		}
		names = append(names, name)
		return nil
	})
	return names, err
}

// object is the content of the directory, without tokens and without facts that are
// not known yet.
func (n *node) object(q *request) (map[string]any, error) {
	object := map[string]any{}
	err := n.each(q, func(child *node, name string) (err error) {
		if child.key == nil {
			object[n.jsonName(child, name)], err = child.object(q)
			return err
		}
		v, err := child.key.recursiveValue(q)
		if v != nil {
			object[n.jsonName(child, name)] = v.json()
		}
		return err
	})
	return object, err
}

// appendLines appends the same content as lines of path, space and value.
func (n *node) appendLines(q *request, prefix string, lines *list) error {
	return n.each(q, func(child *node, name string) error {
		if child.key == nil {
			return child.appendLines(q, prefix+name+"/", lines)
		}
		v, err := child.key.recursiveValue(q)
		if v != nil {
			for _, line := range v.lines() {
				*lines = append(*lines, prefix+name+" "+line)
			}
		}
		return err
	})
}

// recursiveValue is the key's value in a recursive response; nil if it is left out.
func (e *endpoint) recursiveValue(q *request) (value, error) {
	if e.token {
		return nil, nil
	}
	v, err := e.value(q)
	if err == errUnknownFact {
		return nil, nil
	}
	return v, err
}

// jsonName is the child's name in an object: in camel case, except for the names of
// attributes and accounts, which are data.
func (n *node) jsonName(child *node, name string) string {
	if n.segment == "attributes" || child.segment == accountSegment {
		return name
	}
	words := strings.Split(name, "-")
	for i := 1; i < len(words); i++ {
		words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
	}
	return strings.Join(words, "")
}
