package examples

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const (
	uploaderGSA = "uploader@" + ProjectID + ".iam.gserviceaccount.com"
	poolsKSA    = "principal://iam.googleapis.com/projects/" + ProjectNumber + "/locations/global/workloadIdentityPools/on-prem/subject/system:serviceaccount:team:app"
	userRole    = "roles/iam.workloadIdentityUser"
)

// The stand-ins follow the commands of gcloud. The test of the fixture's README covers
// further commands.
func TestFakeCloud_GcloudSetsUpTheStandIns(t *testing.T) {
	s := newFixture(t)
	if !s.Gcloud() {
		t.Skip("this machine has no gcloud")
	}
	s.Cloud.Enable(ProjectID, "iam.googleapis.com")
	if err := s.Google.AddGKEPool("p", ProjectNumber); err != nil {
		t.Fatal(err)
	}
	const project = " --project=" + ProjectID
	bind := func(verb, account, member string) string {
		return "iam service-accounts " + verb + "-iam-policy-binding " + account + " --role=" + userRole + " --member=" + member + project
	}
	for _, step := range []struct{ command, says, fails string }{
		{command: "iam service-accounts create uploader" + project},
		{command: "iam service-accounts create uploader" + project, fails: "already exists"},
		{command: "iam service-accounts create x" + project, fails: "length between 6 and 30"},
		{command: bind("add", uploaderGSA, poolsKSA), fails: "Identity Pool does not exist (projects/" + ProjectNumber},
		{command: "iam workload-identity-pools create on-prem --location=global" + project},
		{command: bind("add", uploaderGSA, poolsKSA), says: poolsKSA},
		{command: bind("add", uploaderGSA, "serviceAccount:q.svc.id.goog[a/b]"), fails: "Identity Pool does not exist (q.svc.id.goog)"},
		{command: bind("add", uploaderGSA, "serviceAccount:p.svc.id.goog[a/b]"), says: poolsKSA},
		{command: bind("remove", uploaderGSA, poolsKSA), says: "p.svc.id.goog[a/b]"},
		{command: bind("add", "nobody@"+ProjectID+".iam.gserviceaccount.com", poolsKSA), fails: "Unknown service account"},
		{command: "iam workload-identity-pools providers create-oidc x1 --location=global --workload-identity-pool=none --issuer-uri=https://x --attribute-mapping=google.subject=assertion.sub" + project, fails: "NOT_FOUND"},
		{command: "projects describe nobodys", fails: "there is no project nobodys"},
		{command: "storage buckets create gs://uploads" + project},
		{command: "storage buckets create gs://uploads" + project, fails: "ALREADY_EXISTS"},
		{command: "storage buckets add-iam-policy-binding gs://none --role=roles/storage.objectUser --member=serviceAccount:" + uploaderGSA, fails: "not found: 404"},
	} {
		s.tryGcloud(t, step.command, step.says, step.fails)
	}
	if !s.Storage.HasBucket("uploads") {
		t.Error("Cloud Storage has no bucket uploads")
	}
}

// Principals other than the operator cannot change anything, whatever token they have.
func TestFakeCloud_AdmitsOnlyTheOperator(t *testing.T) {
	s := newFixture(t)
	client := s.browser(t)
	s.Cloud.Bind(uploaderGSA, userRole, "serviceAccount:"+uploaderGSA)
	token := accessToken(t, s, s.Google.AuthorizedUser("stranger@example.com", ""))
	for address, want := range map[string]int{
		"https://cloudresourcemanager.googleapis.com/v1/projects/" + ProjectID:                            403,
		"https://cloudresourcemanager.googleapis.com/v1/projects/" + ProjectID + ":setIamPolicy":          403,
		"https://iam.googleapis.com/v1/projects/-/serviceAccounts/" + uploaderGSA + ":setIamPolicy":       403,
		"https://iam.googleapis.com/v1/projects/" + ProjectID + "/serviceAccounts":                        403,
		"https://storage.googleapis.com/storage/v1/b?project=" + ProjectID:                                403,
		"https://artifactregistry.googleapis.com/v1/projects/" + ProjectID + "/locations/us/repositories": 403,
		"https://iam.googleapis.com/v1/projects/" + ProjectID + "/locations/global/workloadIdentityPools": 403,
	} {
		method := "POST"
		if strings.HasSuffix(address, "/"+ProjectID) {
			method = "GET"
		}
		for bearer, want := range map[string]int{token: want, "nonsense": 401} {
			if got := ask(t, client, method, address, bearer); got != want {
				t.Errorf("%s %s: %d, want %d", method, address, got, want)
			}
		}
	}
}

// Bind has the effect of gcloud's command, until Unbind.
func TestFakeCloud_Bindings(t *testing.T) {
	s := newFixture(t)
	const member, repository = "serviceAccount:" + uploaderGSA, "projects/" + ProjectID + "/locations/us/repositories/images"
	s.Cloud.CreateBucket(ProjectID, "uploads")
	s.Cloud.CreateBucket(OtherProjectID, "theirs")
	for _, b := range []struct{ resource, role, permission, elsewhere string }{
		{"buckets/uploads", "roles/storage.objectCreator", "storage.objects.create", "buckets/theirs"},
		{"projects/" + ProjectID, "roles/storage.objectViewer", "storage.objects.get", "buckets/theirs"},
		{repository, "roles/artifactregistry.writer", "artifactregistry.repositories.uploadArtifacts", "projects/" + OtherProjectID + "/locations/us/repositories/images"},
	} {
		resource := b.resource
		if resource == "projects/"+ProjectID {
			resource = "buckets/uploads" // has it from its project
		}
		if s.Cloud.Allowed(resource, member, b.permission) {
			t.Errorf("%s on %s without a binding", b.permission, resource)
		}
		s.Cloud.Bind(b.resource, b.role, member)
		if !s.Cloud.Allowed(resource, member, b.permission) {
			t.Errorf("no %s on %s with %s", b.permission, resource, b.role)
		}
		if s.Cloud.Allowed(b.elsewhere, member, b.permission) || s.Cloud.Allowed(resource, "serviceAccount:other@x.y", b.permission) ||
			s.Cloud.Allowed(resource, member, "storage.objects.delete") {
			t.Errorf("%s on %s gives more than it does", b.role, b.resource)
		}
		s.Cloud.Unbind(b.resource, b.role, member)
		if s.Cloud.Allowed(resource, member, b.permission) {
			t.Errorf("%s on %s after the binding was taken away", b.permission, resource)
		}
	}
}

// A policy that was changed concurrently is not overwritten. An etag can be in either
// alphabet of base64.
func TestFakeCloud_RefusesStalePolicies(t *testing.T) {
	s := newFixture(t)
	client := s.browser(t)
	token := accessToken(t, s, s.Google.AuthorizedUser(Operator, ""))
	s.Cloud.CreateBucket(ProjectID, "uploads")
	const address = "https://storage.googleapis.com/storage/v1/b/uploads/iam"
	odd := 0
	for i := range 40 {
		s.Cloud.Bind("buckets/uploads", "roles/storage.objectViewer", fmt.Sprintf("user:reader-%d@example.com", i))
		policy := askJSON(t, client, http.MethodGet, address, token, nil)
		tag, _ := policy["etag"].(string)
		policy["etag"] = strings.NewReplacer("+", "-", "/", "_", "-", "+", "_", "/").Replace(tag)
		if policy["etag"] != tag {
			odd++
		}
		if set := askJSON(t, client, http.MethodPut, address, token, policy); set["error"] != nil || set["etag"] != tag {
			t.Fatalf("the policy as it was read: %v", set)
		}
		policy["etag"] = "AAAA" + tag[4:]
		if set := askJSON(t, client, http.MethodPut, address, token, policy); set["error"] == nil {
			t.Fatalf("an old etag was taken: %v", set)
		}
	}
	if odd == 0 {
		t.Error("no etag had a character that differs")
	}
}
