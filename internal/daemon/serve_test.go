package daemon

import (
	"testing"

	"gke-metadata-emulator/internal/apiserver"
)

const (
	secret         = "c2VjcmV0LXJlZnJlc2gtdG9rZW4"
	userCredential = `{"type": "authorized_user", "client_id": "id", "client_secret": "` + secret + `", "refresh_token": "` + secret + `"}`
)

func TestServe_ReadsFilesBeforeAnythingStarts(t *testing.T) {
	s := aside(impersonation())
	s.SourceCredentials = "/nonexistent/key.json"
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	flagError(t, s.Run(t.Context(), t.Output()), "source-credentials", "/nonexistent/key.json")

	s.SourceCredentials, s.Policy = file(t, userCredential), PolicyFile
	for content, text := range map[string]string{"rules: 7": "see docs/policy.md", "rules:\n- a: 1\n  a: 2\n- a: 1\n  a: 2\n": "see docs/policy.md"} {
		s.PolicyFile = file(t, content)
		flagError(t, s.Run(t.Context(), t.Output()), "policy-file", text)
	}
	s.PolicyFile = "/nonexistent/rules.yaml"
	flagError(t, s.Run(t.Context(), t.Output()), "policy-file", s.PolicyFile)
}

func TestServe_RefusesAnUnusableKubeconfig(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	s := aside(federation())
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"": "outside a pod there is no default", "/nonexistent/config": "/nonexistent/config", file(t, "apiVersion: v1\nkind: Nothing\n"): "give the path of a kubeconfig file"} {
		s.Kubeconfig = path
		flagError(t, s.Run(t.Context(), t.Output()), "kubeconfig", text)
	}
}

func TestServe_FactsFollowFromTheSettings(t *testing.T) {
	s := federation()
	s.ID, s.ClusterLocation = "example.com:prod-project", "us-east1"
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	p := newProgram(t.Context(), logSettings, t.Output())
	defer p.close()
	api := &clients{requests: &apiserver.Client{}}
	got := s.factsOptions(p, api)
	if got.Zone != "us-east1-a" || !got.ZoneFromNode || got.Cluster != api.requests || got.ClusterUID != "" {
		t.Errorf("without --zone: %+v", got)
	}
	if got.ProjectID != s.ID || got.DottedProjectID != "prod-project.example.com" || got.NumericProjectID != "998877665544" || got.Node != "node-1" ||
		got.WorkloadPool != "example.com:prod-project.svc.id.goog" || got.UniverseDomain != "googleapis.com" || got.ClusterName != "kubernetes" || got.ClusterLocation != "us-east1" {
		t.Errorf("%+v", got)
	}
	s = federation()
	s.Zone = "us-east1-d"
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	if got := s.factsOptions(p, api); got.Zone != "us-east1-d" || got.ZoneFromNode {
		t.Errorf("with --zone: %+v", got)
	}
}
