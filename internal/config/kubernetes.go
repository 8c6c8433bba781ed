package config

import "github.com/spf13/pflag"

// Kubernetes has the settings of the connection to the API server.
type Kubernetes struct {
	Kubeconfig string // path of a file; empty: the pod's own service account
}

func (k *Kubernetes) flags(f *pflag.FlagSet) {
	f.StringVar(&k.Kubeconfig, "kubeconfig", "", "kubeconfig `file` for the connection to the API server (default: the pod's own service account)")
}
