package tokens

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/principal"
)

// iamFixture is a policy in front of an IAM that a test controls.
type iamFixture struct {
	*iamPolicy
	t *testing.T

	mu      sync.Mutex
	calls   int
	status  int
	answer  string
	latency time.Duration
}

// newIAMFixture returns a policy that reads the given bindings.
func newIAMFixture(t *testing.T, bindings ...map[string]any) *iamFixture {
	t.Helper()
	b := &iamFixture{t: t, status: http.StatusOK}
	b.bind(bindings...)
	o := (&offlineGoogle{Running: offlineServer}).impersonation(operator, nil)
	o.Names, o.Now = testNames, time.Now
	o.HTTPClient = &http.Client{Transport: transport(func(r *http.Request) (int, string) {
		if got := r.Header.Get("Authorization"); got != "Bearer operators-own-token" {
			t.Errorf("Authorization %q", got)
		}
		if got := r.URL.Query().Get("options.requestedPolicyVersion"); got != "3" {
			t.Errorf("policy version %q: conditions would be hidden", got)
		}
		b.mu.Lock()
		b.calls++
		status, answer, latency := b.status, b.answer, b.latency
		b.mu.Unlock()
		time.Sleep(latency)
		return status, answer
	})}
	background, m := newBackground(upstreamTimeout), newMetrics(prometheus.NewRegistry())
	b.iamPolicy = must(newIAMPolicy(&sourceCredential{SourceCredential: operator, metrics: m}, o, background, m))
	t.Cleanup(background.close)
	return b
}

func (b *iamFixture) bind(bindings ...map[string]any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = string(must(json.Marshal(map[string]any{"version": 3, "bindings": bindings})))
}

func (b *iamFixture) allow(w identity.Workload) error {
	_, err := b.Allow(b.t.Context(), w)
	return err
}

func (b *iamFixture) wantReads(want int) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls != want {
		b.t.Errorf("the policy was read %d times, want %d", b.calls, want)
	}
}

func binding(role string, members ...string) map[string]any {
	return map[string]any{"role": role, "members": members}
}

const (
	cartMember = "serviceAccount:" + testPool + "[shop/cart]"
	pools      = "principal://iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/"
)

func TestIAMPolicy_AcceptsEveryMemberForm(t *testing.T) {
	gke := []string{cartMember, pools + testPool + "/subject/ns/shop/sa/cart"}
	for names, members := range map[principal.Names][]string{
		testGKENames: gke,
		testNames:    append(gke, testCaller, pools+"clusters/subject/ns/shop/sa/cart"),
	} {
		for _, member := range members {
			synctest.Test(t, func(t *testing.T) {
				b := newIAMFixture(t, binding("roles/viewer", "user:a@b.c"), binding(workloadIdentityUser, "user:a@b.c", member))
				b.names = names
				if err := b.allow(linked); err != nil {
					t.Errorf("%s: %v", member, err)
				}
			})
		}
	}
}

func TestIAMPolicy_DeniesForeignBindings(t *testing.T) {
	conditional := binding(workloadIdentityUser, cartMember)
	conditional["condition"] = map[string]any{"title": "until spring", "expression": `request.time < timestamp("2099-01-01T00:00:00Z")`}
	user := func(members ...string) map[string]any { return binding(workloadIdentityUser, members...) }
	for name, bindings := range map[string][]map[string]any{
		"no policy":                    nil,
		"no member":                    {user()},
		"condition":                    {conditional},
		"other role":                   {binding(tokenCreator, cartMember), binding("roles/owner", cartMember)},
		"other project's pool":         {user("serviceAccount:other-project.svc.id.goog[shop/cart]")},
		"pool with this one's name":    {user("serviceAccount:x" + testPool + "[shop/cart]")},
		"other namespace":              {user("serviceAccount:" + testPool + "[shop2/cart]")},
		"other KSA":                    {user("serviceAccount:" + testPool + "[shop/other]")},
		"KSA with a longer name":       {user("serviceAccount:" + testPool + "[shop/cart-2]")},
		"KSA that this name begins as": {user("serviceAccount:" + testPool + "[shop/car]")},
		"other federation pool":        {user(pools + "others/subject/system:serviceaccount:shop:cart")},
		"pool of another number":       {user(strings.Replace(testCaller, "123456", "654321", 1))},
		"GKE's pool of another number": {user(strings.Replace(pools, "123456", "654321", 1) + testPool + "/subject/ns/shop/sa/cart")},
		"GKE's pool, other subject":    {user(pools + testPool + "/subject/system:serviceaccount:shop:cart")},
		"all of the pool":              {user("principalSet:" + testNames.Pool + "/*")},
		"longer subject":               {user(testCaller + "-2")},
		"service account of that name": {user("serviceAccount:cart@shop.iam.gserviceaccount.com")},
		"everybody":                    {user("allUsers", "allAuthenticatedUsers")},
		"deleted":                      {user("deleted:" + cartMember + "?uid=1")},
		"other letters":                {user(strings.ToUpper(cartMember))},
	} {
		t.Run(name, func(t *testing.T) {
			for names, member := range map[principal.Names]string{testNames: testCaller, testGKENames: cartMember} {
				synctest.Test(t, func(t *testing.T) {
					b := newIAMFixture(t, bindings...)
					b.names = names
					wantError(t, b.allow(linked), Denied, "shop/cart may not use "+testGSA,
						"gcloud iam service-accounts add-iam-policy-binding "+testGSA+" --role=roles/iam.workloadIdentityUser --member=\""+member+"\"")
				})
			}
		})
	}
}

// In another pool, the same subject is the KSA of another cluster.
func TestIAMPolicy_PoolThatIsNotConfiguredDenies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newIAMFixture(t, binding(workloadIdentityUser, testCaller))
		b.names = testGKENames
		wantError(t, b.allow(linked), Denied, cartMember)
	})
}

func TestIAMPolicy_DenialWithoutPoolExplainsHowToCreateOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const command = "\ngcloud iam workload-identity-pools create projects/123456/locations/global/workloadIdentityPools/NAME\n"
		b := newIAMFixture(t)
		if denial := wantError(t, b.allow(linked), Denied); strings.Contains(denial.Message, "pools create") {
			t.Errorf("the pool exists, but the message is\n%s", denial)
		}
		b.names = testGKENames
		wantError(t, b.allow(linked), Denied, "only if the pool "+testPool+" exists", command, "--workload-identity-pool=NAME (GME_WORKLOAD_IDENTITY_POOL)")
	})
}

func TestIAMPolicy_ConditionalBindingDoesNotHideAnother(t *testing.T) {
	conditional := binding(workloadIdentityUser, cartMember)
	conditional["condition"] = map[string]any{"expression": "false"}
	synctest.Test(t, func(t *testing.T) {
		check(t, newIAMFixture(t, conditional, binding(workloadIdentityUser, cartMember)).allow(linked))
	})
}

func TestIAMPolicy_IsCachedForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newIAMFixture(t, binding(workloadIdentityUser, cartMember))
		check(t, b.allow(linked))
		b.bind()
		time.Sleep(policyTTL - time.Second)
		check(t, b.allow(linked))
		b.wantReads(1)
		time.Sleep(time.Second)
		wantError(t, b.allow(linked), Denied)
		b.wantReads(2)
	})
}

func TestIAMPolicy_DenialIsCachedForSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newIAMFixture(t)
		wantError(t, b.allow(linked), Denied)
		b.bind(binding(workloadIdentityUser, cartMember))
		time.Sleep(denialTTL - time.Second)
		wantError(t, b.allow(linked), Denied)
		b.wantReads(1)
		time.Sleep(time.Second)
		check(t, b.allow(linked))
		b.wantReads(2)
	})
}

func TestIAMPolicy_ReadFailureIsNotCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newIAMFixture(t, binding(workloadIdentityUser, cartMember))
		b.status = http.StatusServiceUnavailable
		wantError(t, b.allow(linked), Unavailable, "503 Service Unavailable")
		b.status = http.StatusOK
		check(t, b.allow(linked))
	})
}

func TestIAMPolicy_ConcurrentReadsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newIAMFixture(t, binding(workloadIdentityUser, cartMember))
		b.latency = time.Second
		stranger := with(linked, func(w *identity.Workload) { w.KSA.Name = "stranger" })
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if err := b.allow(linked); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() { wantError(t, b.allow(stranger), Denied, "shop/stranger") })
		}
		all.Wait()
		b.wantReads(1)
	})
}

func TestIAMPolicy_CacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newIAMFixture(t, binding(workloadIdentityUser, cartMember))
		for i := range policyCacheSize + 50 {
			check(t, b.allow(with(linked, func(w *identity.Workload) { w.GSA = fmt.Sprintf("a%d@p.iam.gserviceaccount.com", i) })))
		}
		if got := b.known.Len(); got != policyCacheSize {
			t.Errorf("%d policies are cached", got)
		}
	})
}

// Against a Google that checks the permissions of the reader.
func TestIAMPolicy_UnreadablePolicyNamesRemedy(t *testing.T) {
	g := startGoogle(t)
	e := newEngine(t, g.impersonation(gcloudLogin.source(t, g), nil))
	g.Bind(testGSA, tokenCreator, gcloudLogin.member)
	_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
	wantError(t, err, Denied, "read the IAM policy of "+testGSA, "IAM returned 403 Forbidden",
		"gcloud iam service-accounts add-iam-policy-binding "+testGSA+" --role="+policyViewer, "--impersonation-policy=file", "#missing-binding")
	if got := g.Counters()[fakegoogle.MethodGenerateAccessToken]; got != 0 {
		t.Errorf("%d tokens were minted", got)
	}
}

func TestIAMPolicy_MissingGSAIsNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newIAMFixture(t)
		b.status, b.answer = http.StatusNotFound, `{"error": {"code": 404, "message": "Unknown service account"}}`
		wantError(t, b.allow(linked), NotFound, "Unknown service account", identity.AnnotationGSA)
	})
}
