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
	FakePool = iamHost + "projects/" + fakeProjectNumber + "/locations/global/workloadIdentityPools/demo-pool"
	// FakeProvider is the full name of the provider in that pool.
	FakeProvider = FakePool + "/providers/demo-provider"
)

const (
	iamHost        = "//iam.googleapis.com/"
	poolForm       = "projects/NUMBER/locations/global/workloadIdentityPools/POOL"
	providerForm   = iamHost + poolForm + "/providers/PROVIDER"
	fleetHost      = "https://gkehub.googleapis.com/"
	membershipForm = fleetHost + "projects/PROJECT/locations/LOCATION/memberships/MEMBERSHIP"
)

var (
	// providerName matches what gcloud prints as a provider's name, and what it prints as
	// authority.identityProvider of a cluster's membership of a fleet.
	providerName = regexp.MustCompile(`^((//iam\.googleapis\.com/)?projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+` +
		`|` + regexp.QuoteMeta(fleetHost) + `projects/[a-z0-9.:-]+/locations/[a-z0-9-]+/memberships/[a-z0-9-]+)$`)
	poolName = regexp.MustCompile(`^((//iam\.googleapis\.com/)?projects/[0-9]+/locations/global/workloadIdentityPools/)?[a-z0-9-]+$`)

	projectOfName = regexp.MustCompile(`/projects/([^/]+)/`)
)

// Provider is the way by which Google knows the cluster and its KSAs.
type Provider struct {
	// Name is the full name of the workload identity provider or of the fleet's membership
	// through which Google trusts the cluster; empty with impersonation.
	Name string
	// Pool is the full name of the workload identity pool that has the KSAs; empty if it is
	// that of [Project].
	Pool string
}

func (p *Provider) flags(f *pflag.FlagSet) {
	f.StringVar(&p.Name, "workload-identity-provider", "", "full `name` of the workload identity provider: "+providerForm+
		"; or of the cluster's fleet membership: "+membershipForm+" (required with federation)")
	setPattern(f, "workload-identity-provider", providerName)
	f.StringVar(&p.Pool, "workload-identity-pool", "", "`name` of a workload identity pool whose principals the IAM policies of --impersonation-policy=iam can name: POOL in the project of --project-number, or "+
		poolForm+"; see docs/impersonation.md (default: the pool of --workload-identity-provider, or else only --workload-pool)")
	setPattern(f, "workload-identity-pool", poolName)
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
		return FlagErrorf("workload-identity-provider", "give "+providerForm+" or "+membershipForm, "%q is not the full name of a provider", p.Name)
	}
	if credentials == Fake && p.isMembership() {
		return FlagErrorf("workload-identity-provider", "leave it out", "a fleet contradicts --credentials=fake")
	}
	p.Name = withHost(p.Name)
	return nil
}

// completePool takes the number of the project, which has been checked.
func (p *Provider) completePool(projectNumber string) error {
	if !poolName.MatchString(p.Pool) && p.Pool != "" {
		return FlagErrorf("workload-identity-pool", "give POOL or "+poolForm, "%q is not the name of a pool", p.Pool)
	}
	if p.Pool != "" && !strings.Contains(p.Pool, "/") {
		p.Pool = strings.NewReplacer("NUMBER", projectNumber, "POOL", p.Pool).Replace(poolForm)
	}
	p.Pool = withHost(p.Pool)
	if p.Name == "" {
		return nil
	}
	pool := ""
	if !p.isMembership() {
		pool, _, _ = strings.Cut(p.Name, "/providers/")
	}
	if p.Pool != "" && p.Pool != pool {
		return FlagErrorf("workload-identity-pool", "leave it out", "contradicts --workload-identity-provider=%s", p.Name)
	}
	p.Pool = pool
	return nil
}

// checkFleet takes the project before its completion: the fleet's own project may have the
// default of its workload pool, another one may not.
func (p *Provider) checkFleet(project *Project) error {
	fleet := p.project()
	if !p.isMembership() || project.WorkloadPool != "" || fleet == project.ID || fleet == cmp.Or(project.Number, p.projectNumber()) {
		return nil
	}
	membership := strings.TrimPrefix(p.Name, fleetHost)
	return FlagErrorf("workload-pool", "gcloud container fleet memberships describe "+membership+" --format='value(authority.workloadIdentityPool)'",
		"is needed, because the fleet is of project %s", fleet)
}

// Audiences returns the audience of token exchanges at Google's Security Token Service, and
// that of the KSA tokens which are exchanged. workloadPool is that of the project.
//
// Sources: "Workload Identity Federation with Kubernetes" for a provider, whose default
// audience is its URL; fleet-wif-notes.md of Google's
// secrets-store-csi-driver-provider-gcp for a membership (both as of 2026-11).
func (p *Provider) Audiences(workloadPool string) (exchange, ksaToken string) {
	if p.isMembership() {
		return "identitynamespace:" + workloadPool + ":" + p.Name, workloadPool
	}
	return p.Name, "https:" + p.Name
}

// isMembership reports whether the provider is the cluster's membership of a fleet.
func (p *Provider) isMembership() bool { return strings.HasPrefix(p.Name, fleetHost) }

// project is the number or the ID of the project in the provider's name; empty without one.
func (p *Provider) project() string {
	if match := projectOfName.FindStringSubmatch(p.Name); match != nil {
		return match[1]
	}
	return ""
}

// projectNumber is the number of the project in the provider's name; empty if the name has
// none.
func (p *Provider) projectNumber() string {
	if number := p.project(); projectNumber.MatchString(number) {
		return number
	}
	return ""
}

// withHost returns the full name of a resource of IAM.
func withHost(name string) string {
	if strings.HasPrefix(name, "projects/") {
		return iamHost + name
	}
	return name
}
