package registry

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
)

// doers are one request for each permission, and the scope that it needs.
var doers = []struct{ permission, name, method, target, actions string }{
	{download, "download", "HEAD", blob, "pull"},
	{upload, "upload", "POST", uploads, "push,pull"},
	{remove, "delete", "DELETE", manifest, "pull"},
}

func TestPolicies_Roles(t *testing.T) {
	const project = "projects/demo-project"
	for name, test := range map[string]struct {
		resource, role, member string
		allowed                []string
	}{
		"no principal":            {testName, "", "", nil},
		"reader":                  {testName, reader, testPrincipal, []string{download}},
		"writer":                  {testName, writer, testPrincipal, []string{download, upload}},
		"repoAdmin":               {testName, admin, testPrincipal, []string{download, upload, remove}},
		"writer of the project":   {project, writer, testPrincipal, []string{download, upload}},
		"another's repoAdmin":     {testName, admin, "serviceAccount:other@demo-project.iam.gserviceaccount.com", nil},
		"admin of another one":    {testName + "-2", admin, testPrincipal, nil},
		"admin in another place":  {"projects/demo-project/locations/europe-west3/repositories/images", admin, testPrincipal, nil},
		"admin in another's":      {"projects/other-project/locations/europe-west1/repositories/images", admin, testPrincipal, nil},
		"admin of others' images": {"projects/other-project", admin, testPrincipal, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if test.role != "" {
				if err := b.policies.Bind(test.resource, test.role, test.member); err != nil {
					t.Fatal(err)
				}
			}
			token := b.token(cloudPlatform)
			for _, do := range doers {
				response, text := b.do(do.method, do.target, asBearer(token))
				if slices.Contains(test.allowed, do.permission) == (response.StatusCode == http.StatusForbidden) {
					t.Errorf("%s %s: %s %s", do.method, do.target, response.Status, text)
				}
				if !slices.Contains(test.allowed, do.permission) && do.method != "HEAD" {
					b.refused(response, text, http.StatusForbidden, "DENIED", fmt.Sprintf(deniedText, do.name))
				}
				if do.permission == remove {
					continue // a scope of which there is none
				}
				response, text = b.do("GET", exchangeAt+do.actions, asPassword("_token", token))
				if slices.Contains(test.allowed, do.permission) != (response.StatusCode == http.StatusOK) {
					t.Errorf("exchange for %s: %s %s", do.actions, response.Status, text)
				}
				if response.StatusCode != http.StatusOK {
					b.refused(response, text, http.StatusForbidden, "DENIED", fmt.Sprintf(deniedText, do.name))
				}
			}
		})
	}
}

// A principal with permission for all repositories of a project learns that a repository
// does not exist; others do not.
func TestPolicies_UnknownRepository(t *testing.T) {
	const target = testHost + "/v2/demo-project/nowhere/app/manifests/1"
	const exchangeFor = testHost + "/v2/token?scope=repository:demo-project/nowhere/app:push,pull"
	b := newBench(t)
	token := b.token(cloudPlatform)
	const hidden = `Permission "artifactregistry.repositories.%sArtifacts" denied on resource "projects/demo-project/locations/europe-west1/repositories/nowhere" (or it may not exist)`
	response, text := b.do("GET", target, asBearer(token))
	b.refused(response, text, http.StatusForbidden, "DENIED", fmt.Sprintf(hidden, "download"))
	response, text = b.do("GET", exchangeFor, asPassword("_token", token))
	b.refused(response, text, http.StatusForbidden, "DENIED", fmt.Sprintf(hidden, "upload"))

	if err := b.policies.Bind("projects/demo-project", writer, testPrincipal); err != nil {
		t.Fatal(err)
	}
	const unknown = `Repository "nowhere" not found`
	response, text = b.do("GET", target, asBearer(token))
	b.refused(response, text, http.StatusNotFound, "NAME_UNKNOWN", unknown)
	response, text = b.do("GET", exchangeFor, asPassword("_token", token))
	b.refused(response, text, http.StatusNotFound, "NAME_UNKNOWN", unknown)
}

// The policy is asked at each request, also for a token that was exchanged before.
func TestPolicies_UnbindTakesEffect(t *testing.T) {
	b := newBench(t)
	b.bind(writer)
	own, _ := b.exchanged("push,pull", b.token(cloudPlatform))
	if response, text := b.do("POST", uploads, asBearer(own)); response.StatusCode != http.StatusAccepted {
		t.Errorf("%s %s", response.Status, text)
	}
	b.policies.Unbind(testName, writer, testPrincipal)
	response, text := b.do("POST", uploads, asBearer(own))
	b.refused(response, text, http.StatusForbidden, "DENIED", fmt.Sprintf(deniedText, "upload"))
}

func TestPolicies_UnknownRole(t *testing.T) {
	if err := new(Policies).Bind(testName, "roles/artifactregistry.writr", testPrincipal); err == nil {
		t.Error("a role that is none was taken")
	}
}
