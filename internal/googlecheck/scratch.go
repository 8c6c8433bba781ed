package googlecheck

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"

	"golang.org/x/oauth2"
	"google.golang.org/api/iam/v1"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/option"
	"google.golang.org/api/serviceusage/v1"
	"google.golang.org/api/sts/v1"
)

// scratch is the project in which the checks run, with what they have set up. All of it
// is set up at the first use.
type scratch struct {
	Options
	suffix string // of all names, random

	iam         *iam.Service                                   // as the caller, billed to the project
	unbilled    *iam.Service                                   // as the caller, without a quota project
	unbilledIAM *iamcredentials.ProjectsServiceAccountsService // the same
	federated   *iamcredentials.ProjectsServiceAccountsService // as the bearer of the token that a call sets
	sts         *sts.V1Service
	services    *serviceusage.ServicesService

	issuer   once[*issuer] // of the KSA's tokens
	account  once[string]  // e-mail address of the GSA
	pool     once[string]  // projects/NUMBER/locations/global/workloadIdentityPools/POOL
	provider once[string]  // full resource name
	token    once[string]  // federated token of the KSA
	bound    once[string]  // the GSA, once the KSA can use it

	remains []remain
}

// once is a value that is made at its first use. An error remains, too.
type once[V any] struct {
	done  bool
	value V
	err   error
}

func (o *once[V]) get(make func() (V, error)) (V, error) {
	if !o.done {
		o.value, o.err = make()
		o.done = true
	}
	return o.value, o.err
}

func newScratch(o Options) (*scratch, error) {
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails
	s := &scratch{Options: o, suffix: hex.EncodeToString(random)}

	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, o.HTTPClient)
	caller := oauth2.NewClient(ctx, o.Credential)
	billed := option.WithHTTPClient(&http.Client{Transport: quotaProject{o.Project, caller.Transport}})
	unbilled, anonymous := option.WithHTTPClient(caller), option.WithHTTPClient(o.HTTPClient)

	var err error
	if s.iam, err = iam.NewService(ctx, billed, option.WithEndpoint(o.IAM)); err != nil {
		return nil, fmt.Errorf("client of IAM at %s: %w", o.IAM, err)
	}
	if s.unbilled, err = iam.NewService(ctx, unbilled, option.WithEndpoint(o.IAM)); err != nil {
		return nil, fmt.Errorf("client of IAM at %s: %w", o.IAM, err)
	}
	for _, client := range []struct {
		option option.ClientOption
		calls  **iamcredentials.ProjectsServiceAccountsService
	}{{unbilled, &s.unbilledIAM}, {anonymous, &s.federated}} {
		service, err := iamcredentials.NewService(ctx, client.option, option.WithEndpoint(o.IAMCredentials))
		if err != nil {
			return nil, fmt.Errorf("client of IAM Credentials at %s: %w", o.IAMCredentials, err)
		}
		*client.calls = service.Projects.ServiceAccounts
	}
	exchange, err := sts.NewService(ctx, anonymous, option.WithEndpoint(o.STS))
	if err != nil {
		return nil, fmt.Errorf("client of STS at %s: %w", o.STS, err)
	}
	usage, err := serviceusage.NewService(ctx, billed, option.WithEndpoint(o.ServiceUsage))
	if err != nil {
		return nil, fmt.Errorf("client of Service Usage at %s: %w", o.ServiceUsage, err)
	}
	s.sts, s.services = exchange.V1, usage.Services
	return s, nil
}

// quotaProject bills the calls to a project.
type quotaProject struct {
	project string
	next    http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (q quotaProject) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Goog-User-Project", q.project)
	return q.next.RoundTrip(r)
}

// until repeats a step until it is done, or the attempts are used up. The error is the
// context's.
func (s *scratch) until(ctx context.Context, done func() bool) error {
	for attempt := 1; !done() && attempt < s.Attempts; attempt++ {
		if err := s.Pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// eventually makes a call until Google has taken note of a change. A policy takes two
// minutes, sometimes more than seven: "Access change propagation" in Google's
// documentation, read 2026-11-30.
func (s *scratch) eventually(ctx context.Context, call func() error) error {
	var err error
	ended := s.until(ctx, func() bool {
		err = call()
		_, unanswered := answerOf(err)
		return err == nil || unanswered != nil
	})
	return cmp.Or(ended, err)
}

// finish waits for the end of an operation.
func (s *scratch) finish(ctx context.Context, operation *iam.Operation, get func(name string) (*iam.Operation, error)) error {
	var err error
	ended := s.until(ctx, func() bool {
		if !operation.Done && err == nil {
			operation, err = get(operation.Name)
		}
		return err != nil || operation.Done
	})
	switch {
	case ended != nil || err != nil:
		return cmp.Or(ended, err)
	case !operation.Done:
		return fmt.Errorf("the operation %s has not ended", operation.Name)
	case operation.Error != nil:
		return fmt.Errorf("the operation %s failed: %s", operation.Name, operation.Error.Message)
	}
	return nil
}

// newAccount creates a service account and returns its e-mail address.
func (s *scratch) newAccount(ctx context.Context, id string) (string, error) {
	id += "-" + s.suffix
	email := id + "@" + s.DottedProject + ".iam.gserviceaccount.com"
	forget := s.willLeave(remain{
		command: "gcloud iam service-accounts delete " + email + " --project=" + s.Project,
		remove: func(ctx context.Context) error {
			_, err := s.iam.Projects.ServiceAccounts.Delete(s.resource(email)).Context(ctx).Do()
			return err
		},
	})
	_, err := s.iam.Projects.ServiceAccounts.Create("projects/"+s.Project, &iam.CreateServiceAccountRequest{
		AccountId:      id,
		ServiceAccount: &iam.ServiceAccount{DisplayName: "gke-metadata-emulator verify google"},
	}).Context(ctx).Do()
	if err != nil {
		forget(err)
		return "", fmt.Errorf("create service account %s; the credential needs roles/owner on %s: %v", id, s.Project, err)
	}
	return email, s.eventually(ctx, func() error {
		_, err := s.policy(ctx, email)
		return err
	})
}

// gsa is the service account of most checks.
func (s *scratch) gsa(ctx context.Context) (string, error) {
	return s.account.get(func() (string, error) { return s.newAccount(ctx, "gme-verify") })
}

// resource is the name of a service account of the project.
func (s *scratch) resource(email string) string {
	return "projects/" + s.Project + "/serviceAccounts/" + email
}

func (s *scratch) policy(ctx context.Context, email string) (*iam.Policy, error) {
	return s.iam.Projects.ServiceAccounts.GetIamPolicy(s.resource(email)).OptionsRequestedPolicyVersion(3).Context(ctx).Do()
}

// bind adds a binding to the policy of a service account.
func (s *scratch) bind(ctx context.Context, email, role, member string) error {
	policy, err := s.policy(ctx, email)
	if err != nil {
		return err
	}
	policy.Bindings = append(policy.Bindings, &iam.Binding{Role: role, Members: []string{member}})
	_, err = s.iam.Projects.ServiceAccounts.SetIamPolicy(s.resource(email), &iam.SetIamPolicyRequest{Policy: policy}).Context(ctx).Do()
	return err
}

// bindEventually is bind for a member that is new: IAM refuses it until it has taken note
// of it.
func (s *scratch) bindEventually(ctx context.Context, email, role, member string) error {
	return s.eventually(ctx, func() error { return s.bind(ctx, email, role, member) })
}

var numberedPool = regexp.MustCompile(`^projects/([0-9]+)/locations/global/workloadIdentityPools/([a-z0-9-]+)$`)

// newPool creates the workload identity pool and returns its name, with the project's
// number.
func (s *scratch) newPool(ctx context.Context) (string, error) {
	id := "gme-verify-" + s.suffix
	name := "projects/" + s.Project + "/locations/global/workloadIdentityPools/" + id
	pools := s.iam.Projects.Locations.WorkloadIdentityPools
	forget := s.willLeave(remain{
		command: "gcloud iam workload-identity-pools delete " + id + " --location=global --project=" + s.Project,
		remove: func(ctx context.Context) error {
			_, err := pools.Delete(name).Context(ctx).Do()
			return err
		},
	})
	operation, err := pools.Create("projects/"+s.Project+"/locations/global", &iam.WorkloadIdentityPool{
		DisplayName: "gme verify google",
	}).WorkloadIdentityPoolId(id).Context(ctx).Do()
	if err != nil {
		forget(err)
		return "", fmt.Errorf("create workload identity pool %s; the credential needs roles/owner on %s: %v", id, s.Project, err)
	}
	err = s.finish(ctx, operation, func(name string) (*iam.Operation, error) { return pools.Operations.Get(name).Context(ctx).Do() })
	if err != nil {
		return "", fmt.Errorf("create workload identity pool %s: %v", id, err)
	}
	if s.ProjectNumber != "" {
		return "projects/" + s.ProjectNumber + "/locations/global/workloadIdentityPools/" + id, nil
	}
	var pool *iam.WorkloadIdentityPool
	err = s.eventually(ctx, func() error {
		pool, err = pools.Get(name).Context(ctx).Do()
		return err
	})
	if err != nil {
		return "", fmt.Errorf("get workload identity pool %s: %v", id, err)
	}
	if !numberedPool.MatchString(pool.Name) {
		return "", fmt.Errorf("the name of the new pool is %q, without the project's number; give --project-number", pool.Name)
	}
	return pool.Name, nil
}

// sharedPool is the pool of all providers. It is created at the first use.
func (s *scratch) sharedPool(ctx context.Context) (string, error) {
	return s.pool.get(func() (string, error) { return s.newPool(ctx) })
}

// newProvider creates a provider that trusts an issuer, and returns its full resource name.
func (s *scratch) newProvider(ctx context.Context, id, issuer, jwks string) (string, error) {
	pool, err := s.sharedPool(ctx)
	if err != nil {
		return "", err
	}
	providers := s.iam.Projects.Locations.WorkloadIdentityPools.Providers
	operation, err := providers.Create(pool, &iam.WorkloadIdentityPoolProvider{
		AttributeMapping: map[string]string{"google.subject": "assertion.sub"},
		Oidc:             &iam.Oidc{IssuerUri: issuer, JwksJson: jwks},
	}).WorkloadIdentityPoolProviderId(id).Context(ctx).Do()
	if err != nil {
		return "", err
	}
	err = s.finish(ctx, operation, func(name string) (*iam.Operation, error) { return providers.Operations.Get(name).Context(ctx).Do() })
	if err != nil {
		return "", err
	}
	return "//iam.googleapis.com/" + pool + "/providers/" + id, nil
}

// newIssuer returns an issuer with a new key, which is never stored.
func (s *scratch) newIssuer(keyID string) (*issuer, error) {
	key, err := s.newKey()
	if err != nil {
		return nil, fmt.Errorf("key of the issuer: %w", err)
	}
	return newIssuer(key, keyID)
}

// newOwnProvider creates a provider that trusts this program's own issuer, which signs the
// tokens of the KSA. Its key set has more keys than the issuer's one.
func (s *scratch) newOwnProvider(ctx context.Context, id string, moreKeys int) (string, error) {
	issuer, err := s.issuer.get(func() (*issuer, error) { return s.newIssuer("gme-verify-" + s.suffix) })
	if err != nil {
		return "", err
	}
	keys, err := issuer.jwks(moreKeys)
	if err != nil {
		return "", err
	}
	return s.newProvider(ctx, id, issuerURL, keys)
}
