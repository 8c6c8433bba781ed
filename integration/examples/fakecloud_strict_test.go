package examples

import (
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gke-metadata-emulator/fakegoogle"
)

// Google's refusals that a new user meets, each by the real gcloud. A stand-in that is laxer
// than Google would let a README pass that fails for its readers.
func strictFixture(t *testing.T, enabled ...string) *Fixture {
	t.Helper()
	s := newFixture(t)
	if !s.Gcloud() {
		t.Skip("this machine has no gcloud")
	}
	s.Cloud.Enable(ProjectID, enabled...)
	return s
}

const (
	createAccount = "iam service-accounts create uploader --project=" + ProjectID
	createPool    = "iam workload-identity-pools create cluster-1 --location=global --project=" + ProjectID
	bindAccount   = "iam service-accounts add-iam-policy-binding " + uploaderGSA + " --role=" + userRole + " --member="
	poolsPrefix   = "principal://iam.googleapis.com/projects/" + ProjectNumber + "/locations/global/workloadIdentityPools/"
)

// A fresh project has no API enabled.
func TestFakeCloud_APIsAreDisabledUntilTheyAreEnabled(t *testing.T) {
	s := strictFixture(t)
	const disabled = "has not been used in project " + ProjectNumber + " before or it is disabled. Enable it by visiting https://console.developers.google.com/apis/api/iam.googleapis.com/overview?project=" + ProjectNumber
	s.tryGcloud(t, createAccount, "", "reason: SERVICE_DISABLED")
	s.tryGcloud(t, createPool, "", disabled)
	s.tryGcloud(t, "artifacts repositories create images --location=us --repository-format=docker --project="+ProjectID, "", "Artifact Registry API has not been used in project "+ProjectNumber)
	s.tryGcloud(t, "services enable no.googleapis.com --project="+ProjectID, "", "not found or permission denied")
	s.tryGcloud(t, "services enable iam.googleapis.com sts.googleapis.com --project="+ProjectID, "", "")
	s.tryGcloud(t, createAccount, "", "")
	s.tryGcloud(t, strings.Replace(createAccount, ProjectID, OtherProjectID, 1), "", "SERVICE_DISABLED")
	s.tryGcloud(t, "services disable iam.googleapis.com --project="+ProjectID, "", "")
	s.tryGcloud(t, createPool, "", disabled)
}

// The services that issue tokens are disabled by the same commands.
func TestFakeCloud_EnablesTheAPIsOfTheTokenServices(t *testing.T) {
	s := newFixture(t)
	s.writeKeys(t, "jwks.json")
	keys, err := os.ReadFile(filepath.Join(s.home, "jwks.json"))
	if err != nil {
		t.Fatal(err)
	}
	provider := "//iam.googleapis.com/projects/" + ProjectNumber + "/locations/global/workloadIdentityPools/cluster-1/providers/kubernetes"
	if err := s.Google.AddProvider(fakegoogle.Provider{Name: provider, Issuer: "https://issuer.example.com", JWKS: keys}); err != nil {
		t.Fatal(err)
	}
	exchange := func() string {
		response, err := s.browser(t).PostForm("https://sts.googleapis.com/v1/token", url.Values{
			"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
			"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
			"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
			"scope":                {"https://www.googleapis.com/auth/cloud-platform"},
			"audience":             {provider},
			"subject_token":        {"no token"},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	const disabled = `"reason": "SERVICE_DISABLED"`
	if got := exchange(); !strings.Contains(got, disabled) {
		t.Errorf("in a fresh project: %s", got)
	}
	s.Cloud.Enable(OtherProjectID, fakegoogle.ServiceSTS)
	if got := exchange(); !strings.Contains(got, disabled) {
		t.Errorf("enabled in another project: %s", got)
	}
	s.Cloud.Enable(ProjectID, fakegoogle.ServiceSTS)
	if got := exchange(); strings.Contains(got, disabled) || !strings.Contains(got, "invalid_grant") {
		t.Errorf("enabled: %s", got)
	}
}

// IAM stores no member of a pool that does not exist. GKE's pool is there only if GKE has
// created it.
func TestFakeCloud_RefusesMembersOfUnknownPools(t *testing.T) {
	s := strictFixture(t, "iam.googleapis.com")
	s.tryGcloud(t, createAccount, "", "")
	bind := bindAccount + poolsPrefix + "cluster-1/subject/system:serviceaccount:team:app --project=" + ProjectID
	s.tryGcloud(t, bind, "", "Identity Pool does not exist (projects/"+ProjectNumber+"/locations/global/workloadIdentityPools/cluster-1)")
	s.tryGcloud(t, bindAccount+"serviceAccount:"+ProjectID+".svc.id.goog[team/app] --project="+ProjectID, "",
		"INVALID_ARGUMENT: Identity Pool does not exist ("+ProjectID+".svc.id.goog)")
	s.tryGcloud(t, "storage buckets create gs://uploads --project="+ProjectID, "", "")
	s.tryGcloud(t, "storage buckets add-iam-policy-binding gs://uploads --role=roles/storage.objectUser --member="+poolsPrefix+"cluster-1/subject/x", "", "Identity Pool does not exist")
	// By its full name, as the daemon's refusal prints the command.
	s.tryGcloud(t, "iam workload-identity-pools create projects/"+ProjectNumber+"/locations/global/workloadIdentityPools/cluster-1", "", "")
	s.tryGcloud(t, bind, "cluster-1/subject", "")
}

// An account is found in its own project only, whatever its address says: the project in the
// URL is that of --project, or else core/project.
func TestFakeCloud_FindsAccountsOnlyInTheirProject(t *testing.T) {
	s := strictFixture(t, "iam.googleapis.com")
	s.Cloud.Enable(OtherProjectID, "iam.googleapis.com")
	s.tryGcloud(t, createAccount, "", "")
	bind := bindAccount + "user:" + Operator
	s.tryGcloud(t, bind, "", "PERMISSION_DENIED") // in core/project
	s.tryGcloud(t, bind+" --project="+OtherProjectID, "", "NOT_FOUND: Unknown service account")
	s.tryGcloud(t, "config unset project", "", "")
	s.tryGcloud(t, bind, "", "core/project")
	s.tryGcloud(t, bind+" --project="+ProjectID, userRole, "")
	// gcloud describes and deletes accounts in the project "-"; other clients do not.
	client, token := s.browser(t), accessToken(t, s, s.Google.AuthorizedUser(Operator, ""))
	s.tryGcloud(t, "iam service-accounts enable missing@"+ProjectID+".iam.gserviceaccount.com --project="+ProjectID, "", "NOT_FOUND: Unknown service account")
	s.tryGcloud(t, "iam service-accounts enable "+uploaderGSA+" --project="+ProjectID, "", "")
	for project, want := range map[string]int{OtherProjectID: 404, ProjectID: 200, "-": 200} {
		if got := ask(t, client, "GET", "https://iam.googleapis.com/v1/projects/"+project+"/serviceAccounts/"+uploaderGSA, token); got != want {
			t.Errorf("the account in project %s: %d, want %d", project, got, want)
		}
	}
}

// The names of deleted pools and providers are blocked until they are undeleted, or for 30
// days.
func TestFakeCloud_DeletedNamesStayBlocked(t *testing.T) {
	s := strictFixture(t, "iam.googleapis.com")
	const (
		inProject      = " --location=global --project=" + ProjectID
		provider       = "iam workload-identity-pools providers "
		ofPool         = " kubernetes --workload-identity-pool=cluster-1" + inProject
		createProvider = provider + "create-oidc" + ofPool + " --issuer-uri=https://issuer.example.com --attribute-mapping=google.subject=assertion.sub --jwk-json-path=jwks.json"
	)
	s.writeKeys(t, "jwks.json")
	for _, step := range []struct{ command, says, fails string }{
		{createPool, "", ""},
		{createProvider, "", ""},
		{createProvider, "", "ALREADY_EXISTS"},
		{provider + "delete --quiet" + ofPool, "", ""},
		{createProvider, "", "ALREADY_EXISTS: Requested entity already exists"},
		{provider + "describe" + ofPool, "state: DELETED", ""},
		{provider + "undelete" + ofPool, "", ""},
		{provider + "describe" + ofPool, "state: ACTIVE", ""},
		{"iam workload-identity-pools delete cluster-1 --quiet" + inProject, "", ""},
		{"iam workload-identity-pools list --format=value(name)" + inProject, "", ""},
		{createPool, "", "ALREADY_EXISTS: Requested entity already exists"},
		{createProvider, "", "NOT_FOUND"},
		{"iam workload-identity-pools undelete cluster-1" + inProject, "", ""},
		{"iam workload-identity-pools undelete cluster-1" + inProject, "", "FAILED_PRECONDITION"},
		{"iam workload-identity-pools list --format=value(name)" + inProject, "workloadIdentityPools/cluster-1", ""},
		{createProvider, "", "ALREADY_EXISTS"},
	} {
		s.tryGcloud(t, step.command, step.says, step.fails)
	}
}

// The IDs of pools have the form that Google demands.
func TestFakeCloud_RefusesInvalidPoolIDs(t *testing.T) {
	s := strictFixture(t, "iam.googleapis.com")
	for _, id := range []string{"abc", "gcp-cluster", "Cluster-1", "a.svc.id.goog", strings.Repeat("a", 33)} {
		s.tryGcloud(t, strings.Replace(createPool, "cluster-1", id, 1), "", "INVALID_ARGUMENT")
	}
}

// An organisation can forbid issuers.
func TestFakeCloud_RefusesIssuersThatAPolicyForbids(t *testing.T) {
	s := strictFixture(t, "iam.googleapis.com")
	s.writeKeys(t, "jwks.json")
	create := "iam workload-identity-pools providers create-oidc kubernetes --workload-identity-pool=cluster-1 --location=global --project=" + ProjectID +
		" --issuer-uri=https://issuer.example.com --attribute-mapping=google.subject=assertion.sub --jwk-json-path=jwks.json"
	s.tryGcloud(t, createPool, "", "")
	s.Cloud.AllowIssuers("https://token.actions.githubusercontent.com")
	s.tryGcloud(t, create, "", "Org Policy violated for value: 'https://issuer.example.com'")
	s.tryGcloud(t, create, "", "subject: orgpolicy:projects/"+ProjectID+"/locations/global/workloadIdentityPools/cluster-1")
	s.Cloud.AllowIssuers("https://issuer.example.com")
	s.tryGcloud(t, create, "", "")
}
