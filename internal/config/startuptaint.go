package config

import (
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
)

// StartupTaint keeps pods off the node until the daemon serves.
type StartupTaint struct {
	Key string // empty: no taint
}

func (t *StartupTaint) flags(f *pflag.FlagSet) {
	f.StringVar(&t.Key, "startup-taint", "", "`key` of the taint that is removed from the node once the daemon serves (default: none)")
}

func (t *StartupTaint) check() error {
	if t.Key == "" {
		return nil
	}
	if problems := validation.IsQualifiedName(t.Key); len(problems) > 0 {
		return FlagErrorf("startup-taint", "give the key alone, like gke-metadata-emulator/not-ready", "%q is not the key of a taint: %s", t.Key, strings.Join(problems, ", "))
	}
	return nil
}
