package server

import (
	"maps"
	"slices"
	"strings"
)

// These stand for each name of the caller's account, and of the operator's attributes.
const (
	accountSegment   = "{account}"
	attributeSegment = "{attribute}"
)

// node is a directory of the metadata tree, or a key of it.
type node struct {
	name     string
	key      *endpoint // nil for a directory
	children map[string]*node
}

func newTree(table []endpoint) *node {
	root := &node{children: map[string]*node{}}
	for i := range table {
		at := root
		for segment := range strings.SplitSeq(table[i].path, "/") {
			child := at.children[segment]
			if child == nil {
				child = &node{name: segment, children: map[string]*node{}}
				at.children[segment] = child
			}
			at = child
		}
		at.key = &table[i]
	}
	return root
}

func (n *node) sorted() []*node {
	return slices.SortedFunc(maps.Values(n.children), func(a, b *node) int { return strings.Compare(a.name, b.name) })
}

// names are what a child is called: itself, each name of the caller's account, or
// each of the operator's attributes.
func (n *node) names(q *request) ([]string, error) {
	switch {
	case n.name == accountSegment:
		return q.accounts()
	case n.key != nil && n.key.attributes != nil:
		return slices.Sorted(maps.Keys(n.key.attributes(q.server.options.Facts()))), nil
	case n.absent(q):
		return nil, nil
	}
	return []string{n.name}, nil
}

// absent says whether the node is a directory for the operator's attributes alone,
// of which there are none.
func (n *node) absent(q *request) bool {
	attributes := n.children[attributeSegment]
	return attributes != nil && len(n.children) == 1 && len(attributes.key.attributes(q.server.options.Facts())) == 0
}

// entry is a child under one of its names.
type entry struct {
	child *node
	name  string
}

// entries are the children under all their names, sorted; of an account default
// comes first.
func (n *node) entries(q *request) ([]entry, error) {
	var list []entry
	for _, child := range n.sorted() {
		names, err := child.names(q)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			list = append(list, entry{child, name})
		}
	}
	if n.children[attributeSegment] != nil {
		slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	}
	return list, nil
}

// each visits the children in order.
func (n *node) each(q *request, visit func(child *node, name string) error) error {
	list, err := n.entries(q)
	if err != nil {
		return err
	}
	for _, e := range list {
		q.attribute = e.name
		if err := visit(e.child, e.name); err != nil {
			return err
		}
	}
	return nil
}

// moved is the directory's answer to its name without a slash.
func (n *node) moved(q *request) (value, error) {
	if n.absent(q) {
		return nil, errNotFound
	}
	return nil, errMoved
}

// answer is the directory's: its listing, or with recursive=true all below it, as
// an object or with alt=text as lines.
func (n *node) answer(q *request) (value, error) {
	switch {
	case n.absent(q):
		return nil, errNotFound
	case !q.recursive():
		return n.listing(q)
	case q.query.Get("alt") == "text":
		var list lines
		err := n.flat(q, "", &list)
		return list, err
	}
	of, err := n.object(q)
	return object{of}, err
}

// listing names the children: directories end in a slash.
func (n *node) listing(q *request) (value, error) {
	list := lines{}
	err := n.each(q, func(child *node, name string) error {
		if child.key == nil {
			name += "/"
		}
		list = append(list, name)
		return nil
	})
	return list, err
}

// object is all below the directory but tokens, and but what is not known yet.
func (n *node) object(q *request) (map[string]any, error) {
	of := map[string]any{}
	err := n.each(q, func(child *node, name string) (err error) {
		if child.key == nil {
			of[n.jsonName(child, name)], err = child.object(q)
			return err
		}
		v, err := child.key.recursive(q)
		if v != nil {
			of[n.jsonName(child, name)] = v.recursive()
		}
		return err
	})
	return of, err
}

// flat is the same as lines: the path, a space, the value.
func (n *node) flat(q *request, prefix string, list *lines) error {
	return n.each(q, func(child *node, name string) error {
		if child.key == nil {
			return child.flat(q, prefix+name+"/", list)
		}
		v, err := child.key.recursive(q)
		if v != nil {
			for _, line := range v.texts() {
				*list = append(*list, prefix+name+" "+line)
			}
		}
		return err
	})
}

// recursive is the key's value for a recursive answer, or nil.
func (e *endpoint) recursive(q *request) (value, error) {
	if e.listedOnly {
		return nil, nil
	}
	v, err := e.value(q)
	if err == errUnknownFact {
		return nil, nil
	}
	return v, err
}

// jsonName is a key in a recursive answer: camel case, but for names that are data,
// those of attributes and of accounts.
func (n *node) jsonName(child *node, name string) string {
	if n.name == "attributes" || child.name == accountSegment {
		return name
	}
	words := strings.Split(name, "-")
	for i := 1; i < len(words); i++ {
		words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
	}
	return strings.Join(words, "")
}
