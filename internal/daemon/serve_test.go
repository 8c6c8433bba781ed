package daemon

import (
	"strings"
	"testing"

	"gke-metadata-emulator/internal/apiserver"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/facts"
)

const (
	secret         = "c2VjcmV0LXJlZnJlc2gtdG9rZW4"
	userCredential = `{"type": "authorized_user", "client_id": "id", "client_secret": "` + secret + `", "refresh_token": "` + secret + `"}`
)

func TestServe_ReadsFilesBeforeAnythingStarts(t *testing.T) {
	s := withoutRouting(impersonation())
	s.Credentials.Source = "/nonexistent/key.json"
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	flagError(t, Serve(t.Context(), s, t.Output(), nil), "source-credentials", "/nonexistent/key.json")

	s.Credentials.Source, s.Policy.Impersonation = file(t, userCredential), config.PolicyFile
	for content, text := range map[string]string{"rules: 7": "see docs/policy.md", "rules:\n- a: 1\n  a: 2\n- a: 1\n  a: 2\n": "see docs/policy.md"} {
		s.Policy.File = file(t, content)
		flagError(t, Serve(t.Context(), s, t.Output(), nil), "policy-file", text)
	}
	s.Policy.File = "/nonexistent/rules.yaml"
	flagError(t, Serve(t.Context(), s, t.Output(), nil), "policy-file", s.Policy.File)
}

func TestServe_RefusesAnUnusableKubeconfig(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	s := withoutRouting(federation())
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"": "outside a pod there is no default", "/nonexistent/config": "/nonexistent/config", file(t, "apiVersion: v1\nkind: Nothing\n"): "give the path of a kubeconfig file"} {
		s.Kubernetes.Kubeconfig = path
		flagError(t, Serve(t.Context(), s, t.Output(), nil), "kubeconfig", text)
	}
}

func TestServe_FactsFollowFromTheSettings(t *testing.T) {
	s := federation()
	s.Project.ID, s.Project.ClusterLocation = "example.com:prod-project", "us-east1"
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	p := newProgram(t.Context(), s.Logging, t.Output())
	defer p.close()
	api := &clients{requests: &apiserver.Client{}}
	got := serve{s}.factsOptions(p, facts.Attributes{}, api)
	if got.Zone != "us-east1-a" || !got.ZoneFromNode || got.Cluster != api.requests || got.ClusterUID != "" {
		t.Errorf("without --zone: %+v", got)
	}
	if got.ProjectID != s.Project.ID || got.DottedProjectID != "prod-project.example.com" || got.NumericProjectID != "998877665544" || got.Node != "node-1" ||
		got.Names.GKEPool != "prod-project.example.com.svc.id.goog" || got.UniverseDomain != "googleapis.com" || got.ClusterName != "kubernetes" || got.ClusterLocation != "us-east1" {
		t.Errorf("%+v", got)
	}
	if got.Names.Pool == "" {
		t.Error("the e-mail address of a principal is not of the provider's pool")
	}
	s = federation()
	s.Credentials.Kind, s.Provider.Name = config.Fake, ""
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	if got := (serve{s}).factsOptions(p, facts.Attributes{}, api); got.Names.Pool != "" || s.Names().Pool != config.FakePool {
		t.Errorf("fake: the pool of the facts is %q, that of the tokens %q", got.Names.Pool, s.Names().Pool)
	}
	s = federation()
	s.Project.Zone, s.Project.ClusterUID = "us-east1-d", strings.Repeat("0f", 32)
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	if got := (serve{s}).factsOptions(p, facts.Attributes{}, api); got.Zone != "us-east1-d" || got.ZoneFromNode || got.ClusterUID != s.Project.ClusterUID {
		t.Errorf("with --zone and --cluster-uid: %+v", got)
	}
}

func TestServe_RefusesAnInvalidAttributesFile(t *testing.T) {
	s := withoutRouting(federation())
	s.Project.AttributesFile = file(t, "instance:\n  attributes:\n    a: [b]\n")
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	flagError(t, Serve(t.Context(), s, t.Output(), nil), "attributes-file", "line 3: the value of a is not a string")
}
