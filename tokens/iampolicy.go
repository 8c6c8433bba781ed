package tokens

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"google.golang.org/api/iam/v1"
	"google.golang.org/api/option"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/principal"
)

const (
	workloadIdentityUser = "roles/iam.workloadIdentityUser"

	policyTTL       = time.Minute     // of a policy that allows
	denialTTL       = 5 * time.Second // of a denial; it is short, so a new binding takes effect soon
	policyCacheSize = 1024            // GSAs
)

// iamPolicy is the [Policy] that the GSA's own IAM policy decides, exactly as on GKE: by a
// binding of the KSA to roles/iam.workloadIdentityUser.
type iamPolicy struct {
	credential  *sourceCredential
	calls       *iam.ProjectsServiceAccountsService
	names       principal.Names
	now         func() time.Time
	metrics     *metrics
	flights     flights[gsaPolicy]
	credentials atomic.Uint64 // how often the source credential has changed: a read with the previous one is not joined

	mu    sync.Mutex
	known *simplelru.LRU[string, gsaPolicy] // by GSA; guarded by mu
}

// gsaPolicy holds the members of a GSA's bindings, as they were read.
type gsaPolicy struct {
	members []string
	readAt  time.Time
}

func newIAMPolicy(credential *sourceCredential, o Options, background *background, m *metrics) (*iamPolicy, error) {
	service, err := iam.NewService(context.Background(), option.WithHTTPClient(o.HTTPClient), option.WithEndpoint(o.IAMEndpoint))
	if err != nil {
		return nil, fmt.Errorf("IAM client for %s: %w", o.IAMEndpoint, err)
	}
	known, err := simplelru.NewLRU[string, gsaPolicy](policyCacheSize, nil)
	if err != nil {
		return nil, err
	}
	return &iamPolicy{credential: credential, calls: service.Projects.ServiceAccounts, names: o.Names,
		now: o.Now, metrics: m, flights: flights[gsaPolicy]{background: background}, known: known}, nil
}

// Name implements [Policy].
func (*iamPolicy) Name() string { return "iam" }

// Allow implements [Policy].
func (p *iamPolicy) Allow(ctx context.Context, w identity.Workload) (string, error) {
	// Google itself checks the rest of a chain.
	w.GSA = entryAccount(w)
	p.mu.Lock()
	policy, found := p.known.Get(w.GSA)
	p.mu.Unlock()
	age := p.now().Sub(policy.readAt)
	if found && age < policyTTL {
		if member := p.boundMember(policy, w.KSA); member != "" {
			return bindingReason(w, member), nil
		}
		if age < denialTTL {
			return "", p.denied(w, policy)
		}
	}
	policy, err := p.flights.do(ctx, fmt.Sprint(w.GSA, " ", p.credentials.Load()), func(ctx context.Context) (gsaPolicy, error) { return p.read(ctx, w) })
	if err != nil {
		return "", err
	}
	member := p.boundMember(policy, w.KSA)
	if member == "" {
		return "", p.denied(w, policy)
	}
	return bindingReason(w, member), nil
}

// forgetDenial makes the next request of w read the policy again, unless it allows w.
func (p *iamPolicy) forgetDenial(w identity.Workload) {
	gsa := entryAccount(w)
	p.mu.Lock()
	defer p.mu.Unlock()
	if policy, found := p.known.Peek(gsa); found && p.boundMember(policy, w.KSA) == "" {
		p.known.Remove(gsa)
	}
}

// boundMember is the member name by which the KSA is bound, or empty.
func (p *iamPolicy) boundMember(policy gsaPolicy, ksa identity.ServiceAccount) string {
	for _, member := range p.names.Members(ksa) {
		if slices.Contains(policy.members, member) {
			return member
		}
	}
	return ""
}

func bindingReason(w identity.Workload, member string) string {
	return fmt.Sprintf("%s has %s on %s", member, workloadIdentityUser, w.GSA)
}

func (p *iamPolicy) denied(w identity.Workload, policy gsaPolicy) *Error {
	return &Error{Kind: Denied, validUntil: policy.readAt.Add(denialTTL), Message: fmt.Sprintf("Service account %s/%s may not use %s: it has no binding to %s on it.\n%s\n%s%s",
		w.KSA.Namespace, w.KSA.Name, w.GSA, workloadIdentityUser, bindingCommand(w.GSA, workloadIdentityUser, p.names.Member(w.KSA)), p.poolRemedy(), seeAlso("missing-binding"))}
}

// poolRemedy is the way out for a project that never had a GKE cluster: IAM answers the
// binding of a KSA of GKE's pool with "Identity Pool does not exist" (google/kctf#193), and
// only GKE and fleets can make that pool.
func (p *iamPolicy) poolRemedy() string {
	if p.names.Pool != "" {
		return ""
	}
	return fmt.Sprintf("IAM accepts this member only if the pool %s exists, which GKE makes with the project's first cluster. Without it, create a pool:\n"+
		"gcloud iam workload-identity-pools create projects/%s/locations/global/workloadIdentityPools/NAME\n"+
		"Then set --workload-identity-pool=NAME (GME_WORKLOAD_IDENTITY_POOL) of the metadata server, and bind the member that it shows then.\n",
		p.names.GKEPool, p.names.ProjectNumber)
}

// read reads the IAM policy of w.GSA, for all workloads that name it.
func (p *iamPolicy) read(ctx context.Context, w identity.Workload) (gsaPolicy, error) {
	bearer, err := p.credential.bearer(ctx, w)
	if err != nil {
		return gsaPolicy{}, err
	}
	// Version 3 shows conditional bindings as such; lower ones hide the condition.
	policy := gsaPolicy{readAt: p.now()}
	err = callUpstream(ctx, p.metrics, "getIamPolicy", func(ctx context.Context) error {
		call := p.calls.GetIamPolicy(projectResource(w.GSA)).OptionsRequestedPolicyVersion(3).Context(ctx)
		authorize(call.Header(), bearer)
		setQuotaProject(call.Header(), p.credential.QuotaProject()) // not the KSA's: several can share the read
		response, err := call.Do()
		if err != nil {
			return readPolicyError(w.GSA, p.credential, err)
		}
		for _, binding := range response.Bindings {
			// A condition cannot be evaluated here, so it counts as not met.
			if binding.Role == workloadIdentityUser && binding.Condition == nil {
				policy.members = append(policy.members, binding.Members...)
			}
		}
		return nil
	})
	if err != nil {
		return gsaPolicy{}, err
	}
	p.mu.Lock()
	p.known.Add(w.GSA, policy)
	p.mu.Unlock()
	return policy, nil
}

// readPolicyError names no KSA, as several can share the read.
func readPolicyError(gsa string, operator SourceCredential, err error) *Error {
	member := operator.Member()
	return googleError("read the IAM policy of "+gsa, refusedRequest{gsa: gsa, caller: member, quota: operator.QuotaProject(), binding: sourceRoleCommand(gsa, "roles/iam.serviceAccountViewer", member) +
		"\nAs an alternative, the operator can list the allowed pairs in a file: --impersonation-policy=file"}, err)
}

// projectResource is the name of a GSA for IAM, with its project if the address tells it:
// the wildcard "can cause response messages to contain misleading error codes" (IAM API,
// ServiceAccount.name, 2026-11).
func projectResource(gsa string) string {
	return "projects/" + cmp.Or(gsaProject(gsa), "-") + "/serviceAccounts/" + gsa
}
