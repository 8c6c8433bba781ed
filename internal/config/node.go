package config

import "github.com/spf13/pflag"

// Node identifies the node that the daemon serves.
type Node struct {
	Name string
}

func (n *Node) flags(f *pflag.FlagSet) {
	f.StringVar(&n.Name, "node-name", "", "`name` of this Kubernetes node (required)")
}

func (n *Node) check() error {
	if n.Name == "" {
		return FlagErrorf("node-name", "set it to the node's name, in a pod by the downward API (spec.nodeName)", "is needed to watch the pods of this node only")
	}
	return nil
}
