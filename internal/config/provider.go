package config

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/spf13/pflag"
)

// What the built-in fake Google calls its project and its provider.
const (
	fakeProjectID     = "demo-project"
	fakeProjectNumber = "123456789012"

	// FakePool is the full name of the workload identity pool of the built-in fake Google.
	FakePool = "//iam.googleapis.com/projects/" + fakeProjectNumber + "/locations/global/workloadIdentityPools/demo-pool"
	// FakeProvider is the full name of the provider in that pool.
	FakeProvider = FakePool + "/providers/demo-provider"
)

const providerForm = "//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"

var providerName = regexp.MustCompile(`^//iam\.googleapis\.com/projects/([0-9]+)/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+$`)

// Provider is the workload identity provider through which Google trusts the cluster.
type Provider struct {
	Name string // the full name; empty with impersonation
}

func (p *Provider) flags(f *pflag.FlagSet) {
	f.StringVar(&p.Name, "workload-identity-provider", "", "full `name` of the workload identity provider: "+providerForm+" (required with federation)")
	setPattern(f, "workload-identity-provider", providerName)
}

func (p *Provider) complete(credentials string) error {
	switch credentials {
	case Fake:
		p.Name = cmp.Or(p.Name, FakeProvider)
	case Federation:
		if p.Name == "" {
			return FlagErrorf("workload-identity-provider", "see docs/federation.md, or use --credentials=impersonation on a laptop", "is needed with --credentials=federation")
		}
	}
	if p.Name != "" && !providerName.MatchString(p.Name) {
		return FlagErrorf("workload-identity-provider", "give "+providerForm, "%q is not the full name of a provider", p.Name)
	}
	return nil
}

// projectNumber is the number of the project that has the provider; empty without one.
func (p *Provider) projectNumber() string {
	if match := providerName.FindStringSubmatch(p.Name); match != nil {
		return match[1]
	}
	return ""
}

// pool is the pool of the provider; empty without one.
func (p *Provider) pool() string {
	pool, _, _ := strings.Cut(p.Name, "/providers/")
	return pool
}
