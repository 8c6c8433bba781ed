package server

import (
	"maps"
	"slices"
	"strings"
)

// accountSegment is the directory that stands for each name of the caller's account.
const accountSegment = "{account}"

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

// names are what a child is called: itself, or each name of the caller's account.
func (n *node) names(q *request) ([]string, error) {
	if n.name == accountSegment {
		return q.accounts()
	}
	return []string{n.name}, nil
}

// listing is the directory's answer: directories end in a slash.
func (n *node) listing(q *request) (value, error) {
	list := lines{}
	for _, child := range n.sorted() {
		names, err := child.names(q)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if child.key == nil {
				name += "/"
			}
			list = append(list, name)
		}
	}
	return list, nil
}

// recursive is the directory's answer to recursive=true: an object of all below
// it, but for tokens.
func (n *node) recursive(q *request) (value, error) {
	of, err := n.object(q)
	return object{of}, err
}

func (n *node) object(q *request) (map[string]any, error) {
	of := map[string]any{}
	for _, child := range n.sorted() {
		names, err := child.names(q)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if child.key == nil {
				if of[n.jsonName(child, name)], err = child.object(q); err != nil {
					return nil, err
				}
				continue
			}
			if child.key.listedOnly {
				continue
			}
			v, err := child.key.value(q)
			if err == errUnknownFact {
				continue
			}
			if err != nil {
				return nil, err
			}
			of[n.jsonName(child, name)] = v.recursive()
		}
	}
	return of, nil
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
