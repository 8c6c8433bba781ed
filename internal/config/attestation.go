package config

import (
	"cmp"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/identity/attest"
)

// Attestation has the settings by which callers are identified.
type Attestation struct {
	Policy     string // one of package attest
	CgroupRoot string // empty: the usual places
}

func attestationPolicies() []string {
	return []string{string(attest.Require), string(attest.Prefer), string(attest.IP)}
}

func (a *Attestation) flags(f *pflag.FlagSet) {
	choiceVar(f, &a.Policy, "attestation", string(attest.Prefer), attestationPolicies(), "how callers are identified: require (kernel proof only, otherwise refused), prefer (kernel proof; source address for pods of which the kernel can have none) or ip (source address only); see docs/routing-modes.md")
	f.StringVar(&a.CgroupRoot, "cgroup-root", "", "`folder` in which the kubelet creates kubepods, the cgroup of all pods (default: the usual places)")
}

func (a *Attestation) complete() error {
	a.Policy = cmp.Or(a.Policy, string(attest.Prefer))
	return checkChoice("attestation", a.Policy, attestationPolicies())
}
