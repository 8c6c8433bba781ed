package googlecheck

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"gke-metadata-emulator/fakegoogle"
)

// sharedQuota lets the offline Google answer a user without a quota project, which it
// refuses otherwise: nobody knows what IAM does.
var sharedQuota = fakegoogle.Options{SharedQuotaProject: true}

// runAll returns the results of the checks by name.
func runAll(t *testing.T, o Options) (results map[string]Result, left []string) {
	t.Helper()
	results = map[string]Result{}
	left, err := Run(t.Context(), o, func(r Result) { results[r.Name] = r })
	if err != nil {
		t.Fatal(err)
	}
	return results, left
}

func TestRun_OfflineGoogleAnswersAsExpected(t *testing.T) {
	google := newFakeAdmin(t, sharedQuota)
	results, left := runAll(t, google.options(t))
	for _, check := range Checks() {
		want := Expected
		if strings.HasPrefix(check.Name, "server/") {
			want = NotApplicable
		}
		if got := results[check.Name]; got.Outcome != want || got.Observed == "" {
			t.Errorf("%s is %s, want %s: %s", check.Name, got.Outcome, want, got.Observed)
		}
	}
	if remaining := google.remaining(); len(left) != 0 || len(remaining) != 0 {
		t.Errorf("left %q, and in fact %q", left, remaining)
	}
}

// Each check is shown to notice a Google that answers otherwise.
func TestRun_BentGoogleIsDifferent(t *testing.T) {
	const (
		accepted = `{"access_token": "secret", "accessToken": "secret", "expireTime": "2100-01-01T00:00:00Z", "expires_in": 3599, "token_type": "Bearer"}`
		denied   = `{"error": {"code": 403, "message": "Quota project needed.", "status": "PERMISSION_DENIED"}}`
		scope    = `{"error": "invalid_scope", "error_description": "No such scope."}`
	)
	bends := map[string]bend{
		"roles/serviceAccountViewer":       {[]string{"roles/iam.serviceAccountViewer"}, 200, `{"includedPermissions": ["iam.serviceAccounts.get"]}`},
		"roles/workloadIdentityUser":       {[]string{"roles/iam.workloadIdentityUser"}, 200, `{"includedPermissions": ["iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken", "iam.serviceAccounts.signBlob"]}`},
		"roles/serviceAccountTokenCreator": {[]string{"roles/iam.serviceAccountTokenCreator"}, 200, `{"includedPermissions": ["iam.serviceAccounts.getAccessToken"]}`},

		"policy/member of a missing GKE pool is refused":       {[]string{":setIamPolicy", ".svc.id.goog["}, 200, `{}`},
		"policy/principal of a missing pool is refused":        {[]string{":setIamPolicy", "-none/subject/"}, 200, `{}`},
		"policy/account in another project's URL is not found": {[]string{otherProject, ":getIamPolicy"}, 200, `{}`},

		"federation/exchange is accepted":                             {[]string{"/v1/token"}, 400, `{"error": "invalid_target"}`},
		"federation/federated token mints an access token":            {[]string{":generateAccessToken"}, 403, denied},
		"federation/daemon mints all kinds of tokens":                 {[]string{":generateIdToken"}, 403, denied},
		"federation/unknown signing key is invalid_grant":             {[]string{"/v1/token"}, 200, accepted},
		"federation/federated token does not outlive the KSA's token": {[]string{"/v1/token"}, 200, accepted},
		"federation/keys and token of a cluster are accepted":         {[]string{"/providers?", "cluster-key"}, 400, `{"error": {"code": 400, "message": "x5c is not allowed."}}`},
		"federation/delegate chain works":                             {[]string{":generateAccessToken", "delegates"}, 403, denied},
		"federation/scope openid is accepted":                         {[]string{"/v1/token", `"scope":"openid"`}, 400, scope},
		"federation/scope userinfo.email is accepted":                 {[]string{"/v1/token", "userinfo.email"}, 400, scope},
		"federation/scope sqlservice.login is accepted":               {[]string{"/v1/token", "sqlservice.login"}, 400, scope},
		"federation/scope devstorage.read_only is accepted":           {[]string{"/v1/token", "devstorage.read_only"}, 400, scope},

		"providers/JWKS of nine keys is accepted":    {[]string{"/providers", "next-7"}, 400, `{"error": {"code": 400, "message": "Too many keys."}}`},
		"apis/disabled STS is refused with its name": {[]string{"/v1/token"}, 200, accepted},
	}
	for _, check := range Checks() {
		if strings.HasPrefix(check.Name, "server/") {
			continue // no call is made
		}
		t.Run(check.Name, func(t *testing.T) {
			google := newFakeAdmin(t, sharedQuota)
			if strings.HasPrefix(check.Name, "quota/") {
				google = newFakeAdmin(t, fakegoogle.Options{})
			}
			google.bend = bends[check.Name]
			o := google.options(t)
			o.Only = regexp.MustCompile("^" + regexp.QuoteMeta(check.Name) + "$")
			results, left := runAll(t, o)
			got := results[check.Name]
			if got.Outcome != Different || strings.Contains(got.Observed, "secret") || len(results) != 1 {
				t.Errorf("%d results, %s: %s", len(results), got.Outcome, got.Observed)
			}
			if remaining := google.remaining(); len(left) != 0 || len(remaining) != 0 {
				t.Errorf("left %q, and in fact %q", left, remaining)
			}
		})
	}
}

func TestRun_SetUpThatGoogleRefusesIsAnError(t *testing.T) {
	for _, path := range []string{"/v1/projects/" + testProject + "/serviceAccounts", "/workloadIdentityPools", "/providers?"} {
		google := newFakeAdmin(t, sharedQuota)
		google.bend = bend{[]string{path}, 403, `{"error": {"code": 403, "message": "No."}}`}
		o := google.options(t)
		o.Only = regexp.MustCompile("^federation/federated token mints")
		results, left := runAll(t, o)
		if got := results["federation/federated token mints an access token"]; got.Outcome != Failed || !strings.Contains(got.Observed, "create ") {
			t.Errorf("%s: %s: %s", path, got.Outcome, got.Observed)
		}
		if remaining := google.remaining(); len(left) != 0 || len(remaining) != 0 {
			t.Errorf("%s: left %q, and in fact %q", path, left, remaining)
		}
	}
}

func TestRun_CancelledContextStillCleansUp(t *testing.T) {
	google := newFakeAdmin(t, sharedQuota)
	ctx, cancel := context.WithCancel(t.Context())
	google.bend = bend{[]string{":generateAccessToken", "gme-verify-end"}, 403, `{"error": {"code": 403, "message": "Not yet."}}`}
	o := google.options(t)
	o.Attempts = 1000
	o.Pause = func(context.Context) error { // cancels while a check waits for the delegate chain
		google.mu.Lock()
		defer google.mu.Unlock()
		if google.bent {
			cancel()
		}
		return ctx.Err()
	}
	o.Only = regexp.MustCompile("^federation/")
	var last string
	left, err := Run(ctx, o, func(r Result) { last = r.Name })
	if err == nil || last != "federation/keys and token of a cluster are accepted" { // the check before
		t.Errorf("the last result is of %s, error %v", last, err)
	}
	if remaining := google.remaining(); len(left) != 0 || len(remaining) != 0 {
		t.Errorf("left %q, and in fact %q", left, remaining)
	}
}

func TestRun_RemainsThatCannotBeRemovedAreNamed(t *testing.T) {
	google := newFakeAdmin(t, sharedQuota)
	google.bend = bend{[]string{"DELETE ", "workloadIdentityPools"}, 403, `{"error": {"code": 403, "message": "No."}}`}
	_, left := runAll(t, google.options(t))
	if len(left) != 1 || !regexp.MustCompile(`^gcloud iam workload-identity-pools delete gme-verify-[0-9a-f]{8} --location=global --project=scratch-project$`).MatchString(left[0]) {
		t.Errorf("left %q", left)
	}
}

func TestRun_KeepLeavesEverythingAndNamesIt(t *testing.T) {
	google := newFakeAdmin(t, sharedQuota)
	o := google.options(t)
	o.Keep, o.DisableAPIs = true, false
	_, left := runAll(t, o)
	if remaining := google.remaining(); len(left) != 3 || len(remaining) != 3 {
		t.Errorf("left %q, and in fact %q", left, remaining)
	}
}

func TestRun_ChecksThatNeedMoreAreNotApplicable(t *testing.T) {
	google := newFakeAdmin(t, sharedQuota)
	o := google.options(t)
	o.OtherProject, o.UserCredential, o.DisableAPIs, o.Cluster = "", false, false, nil
	results, _ := runAll(t, o)
	for name, part := range map[string]string{
		"policy/account in another project's URL is not found":                    "--other-project=",
		"quota/IAM answers a user credential without a quota project":             "gcloud auth application-default login",
		"quota/IAM Credentials answers a user credential without a quota project": "gcloud auth application-default login",
		"apis/disabled STS is refused with its name":                              "--disable-apis",
		"federation/keys and token of a cluster are accepted":                     "--kubeconfig=",
		"server/wire details": "run there: kubectl run conformance ",
	} {
		if got := results[name]; got.Outcome != NotApplicable || !strings.Contains(got.Observed, part) {
			t.Errorf("%s is %s: %s", name, got.Outcome, got.Observed)
		}
	}
}
