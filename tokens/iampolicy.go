package tokens

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"google.golang.org/api/iam/v1"
	"google.golang.org/api/option"

	"gke-metadata-emulator/identity"
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
	credential *sourceCredential
	calls      *iam.ProjectsServiceAccountsService
	pool       string // PROJECT_ID.svc.id.goog
	provider   string // of federation; can be empty
	now        func() time.Time
	metrics    *metrics
	flights    flights[gsaPolicy]

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
	return &iamPolicy{credential: credential, calls: service.Projects.ServiceAccounts, pool: o.WorkloadPool, provider: o.Provider,
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
	policy, err := p.flights.do(ctx, w.GSA, func(ctx context.Context) (gsaPolicy, error) { return p.read(ctx, w) })
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
	for _, member := range workloadMembers(p.pool, p.provider, ksa) {
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
	return &Error{Kind: Denied, validUntil: policy.readAt.Add(denialTTL), Message: fmt.Sprintf("Service account %s/%s may not use %s: it has no binding to %s on it.\n%s\n%s",
		w.KSA.Namespace, w.KSA.Name, w.GSA, workloadIdentityUser, bindingCommand(w.GSA, workloadIdentityUser, poolMember(p.pool, w.KSA)), seeAlso("missing-binding"))}
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
			return readPolicyError(w.GSA, p.credential.Member(), err)
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
func readPolicyError(gsa, member string, err error) *Error {
	return googleError("read the IAM policy of "+gsa, request{gsa: gsa, caller: member, binding: sourceRoleCommand(gsa, "roles/iam.serviceAccountViewer", member) +
		"\nAs an alternative, the operator can list the allowed pairs in a file: --impersonation-policy=file"}, err)
}

// projectResource is the name of a GSA for IAM, with its project if the address tells it:
// the wildcard "can cause response messages to contain misleading error codes" (IAM API,
// ServiceAccount.name, 2026-11).
func projectResource(gsa string) string {
	return "projects/" + cmp.Or(gsaProject(gsa), "-") + "/serviceAccounts/" + gsa
}

// workloadMembers are the names by which IAM bindings can refer to a KSA: GKE's own, and
// the principals of its pool and of a federation provider's pool, with both subjects.
func workloadMembers(pool, provider string, ksa identity.ServiceAccount) []string {
	members := []string{poolMember(pool, ksa)}
	federation, _, found := strings.Cut(provider, "/providers/")
	if !found {
		return members
	}
	number := ""
	if parts := strings.Split(federation, "/"); len(parts) > 4 && parts[3] == "projects" {
		number = parts[4]
	}
	gke := "//iam.googleapis.com/projects/" + number + "/locations/global/workloadIdentityPools/" + pool
	for _, pool := range []string{federation, gke} {
		members = append(members, principal(pool, kubernetesSubject(ksa)), principal(pool, "ns/"+ksa.Namespace+"/sa/"+ksa.Name))
	}
	return members
}

func poolMember(pool string, ksa identity.ServiceAccount) string {
	return fmt.Sprintf("serviceAccount:%s[%s/%s]", pool, ksa.Namespace, ksa.Name)
}

func principal(pool, subject string) string { return "principal:" + pool + "/subject/" + subject }

// federatedMember is IAM's name of a KSA that came through a federation provider.
func federatedMember(provider string, ksa identity.ServiceAccount) string {
	pool, _, _ := strings.Cut(provider, "/providers/")
	return principal(pool, kubernetesSubject(ksa))
}
