package tokens

import (
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

	policyLife      = time.Minute     // an answer is believed for so long
	denialLife      = 5 * time.Second // and so long where it denies: somebody is about to add the binding
	policyCacheSize = 1024            // GSAs
)

// iamPolicy is the policy that the GSA's own IAM policy states, exactly as on GKE:
// a binding of the KSA to roles/iam.workloadIdentityUser.
type iamPolicy struct {
	credential base
	calls      *iam.ProjectsServiceAccountsService
	pool       string // PROJECT_ID.svc.id.goog
	provider   string // of federation, or empty
	now        func() time.Time
	metrics    *metrics
	flights    flights[readPolicy]

	mu    sync.Mutex
	known *simplelru.LRU[string, readPolicy]
}

// readPolicy is whom a GSA is bound to, and when that was read.
type readPolicy struct {
	members []string
	at      time.Time
}

func newIAMPolicy(credential base, o Options, tasks *tasks, m *metrics) (*iamPolicy, error) {
	service, err := iam.NewService(context.Background(), option.WithHTTPClient(o.HTTPClient), option.WithEndpoint(o.IAMEndpoint))
	if err != nil {
		return nil, fmt.Errorf("IAM client for %s: %w", o.IAMEndpoint, err)
	}
	known, err := simplelru.NewLRU[string, readPolicy](policyCacheSize, nil)
	if err != nil {
		return nil, err
	}
	return &iamPolicy{credential: credential, calls: service.Projects.ServiceAccounts, pool: o.WorkloadPool, provider: o.Provider,
		now: o.Now, metrics: m, flights: flights[readPolicy]{tasks: tasks}, known: known}, nil
}

// Allow implements [Policy].
func (p *iamPolicy) Allow(ctx context.Context, w identity.Workload) (string, error) {
	// What comes after the first of a chain Google sees itself.
	w.GSA = first(w)
	p.mu.Lock()
	read, found := p.known.Get(w.GSA)
	p.mu.Unlock()
	age := p.now().Sub(read.at)
	if found && age < policyLife {
		if member := p.binds(read, w.KSA); member != "" {
			return bound(w, member), nil
		}
		if age < denialLife {
			return "", p.denied(w, read)
		}
	}
	read, err := p.flights.do(ctx, w.GSA, func(ctx context.Context) (readPolicy, error) { return p.read(ctx, w) })
	if err != nil {
		return "", err
	}
	member := p.binds(read, w.KSA)
	if member == "" {
		return "", p.denied(w, read)
	}
	return bound(w, member), nil
}

// binds is the name by which the KSA is bound, or empty.
func (p *iamPolicy) binds(read readPolicy, ksa identity.ServiceAccount) string {
	for _, member := range workloadMembers(p.pool, p.provider, ksa) {
		if slices.Contains(read.members, member) {
			return member
		}
	}
	return ""
}

func bound(w identity.Workload, member string) string {
	return fmt.Sprintf("%s has %s on %s", member, workloadIdentityUser, w.GSA)
}

func (p *iamPolicy) denied(w identity.Workload, read readPolicy) *Error {
	return &Error{Kind: Denied, until: read.at.Add(denialLife), Message: fmt.Sprintf("Service account %s/%s may not use %s: it has no binding to %s on it.\n%s",
		w.KSA.Namespace, w.KSA.Name, w.GSA, workloadIdentityUser, bindingCommand(w.GSA, workloadIdentityUser, poolMember(p.pool, w.KSA)))}
}

// read asks IAM, for all workloads that name w.GSA.
func (p *iamPolicy) read(ctx context.Context, w identity.Workload) (readPolicy, error) {
	bearer, err := p.credential.bearer(ctx, w)
	if err != nil {
		return readPolicy{}, err
	}
	// Version 3 shows conditional bindings as such; lower ones hide the condition.
	read := readPolicy{at: p.now()}
	err = p.metrics.call(ctx, "getIamPolicy", func(ctx context.Context) error {
		call := p.calls.GetIamPolicy(resource(w.GSA)).OptionsRequestedPolicyVersion(3).Context(ctx)
		authorize(call.Header(), bearer)
		policy, err := call.Do()
		if err != nil {
			return unread(w.GSA, err)
		}
		for _, binding := range policy.Bindings {
			// A condition cannot be evaluated here, so that it counts as not met.
			if binding.Role == workloadIdentityUser && binding.Condition == nil {
				read.members = append(read.members, binding.Members...)
			}
		}
		return nil
	})
	if err != nil {
		return readPolicy{}, err
	}
	p.mu.Lock()
	p.known.Add(w.GSA, read)
	p.mu.Unlock()
	return read, nil
}

// unread names no KSA, as it may answer several.
func unread(gsa string, err error) *Error {
	e := googleError("read the IAM policy of "+gsa, err)
	if e.Kind == Denied {
		e.Message += "\n" + sourceRoleCommand(gsa, "roles/iam.serviceAccountViewer") +
			"\nIts operator can state who may use what in a file instead: --impersonation-policy=file"
	}
	if e.Kind == NotFound {
		e.Message += "\nCheck the annotation " + identity.AnnotationGSA + " of the Kubernetes service account"
	}
	return e
}

// workloadMembers are the names that IAM bindings have for a KSA: GKE's form, and
// the principals of its pool and of a federation provider's, with both subjects.
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
	for _, of := range []string{federation, gke} {
		members = append(members, principal(of, kubernetesSubject(ksa)), principal(of, "ns/"+ksa.Namespace+"/sa/"+ksa.Name))
	}
	return members
}

func poolMember(pool string, ksa identity.ServiceAccount) string {
	return fmt.Sprintf("serviceAccount:%s[%s/%s]", pool, ksa.Namespace, ksa.Name)
}

func principal(pool, subject string) string { return "principal:" + pool + "/subject/" + subject }

// federatedMember is how IAM names a KSA that came through a federation provider.
func federatedMember(provider string, ksa identity.ServiceAccount) string {
	pool, _, _ := strings.Cut(provider, "/providers/")
	return principal(pool, kubernetesSubject(ksa))
}
