package integration

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/auth/credentials"
	authidtoken "cloud.google.com/go/auth/credentials/idtoken"
	"cloud.google.com/go/compute/metadata"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/idtoken"

	"gke-metadata-emulator/integration/internal/standintest"
	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
	"gke-metadata-emulator/tokens"
)

// target is a metadata server as a client sees it that knows nothing about this project.
type target struct {
	host string // GCE_METADATA_HOST
	gsa  string
	// principal returns the principal of a token if the test can determine it; otherwise it is nil.
	principal func(t *testing.T, token string) string
}

// targets are serve, through a relay that has a pod's address, and standalone.
func targets(t *testing.T) map[string]target {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	n.link(ns, "app", writer)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	return map[string]target{
		"serve": {kubernetes.Relay(t, "127.0.1.1", n.addr), writer, func(t *testing.T, token string) string {
			grant, _ := n.google.Inspect(token)
			return grant.Principal
		}},
		"standalone": {startStandalone(t), "demo@" + projectID + ".iam.gserviceaccount.com", nil},
	}
}

func startStandalone(t *testing.T) string {
	t.Helper()
	s := config.NewStandalone()
	s.Listen = config.Listen{Address: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	// The same as serve's: Google's Go library keeps them for the process.
	s.Project.ID, s.Project.Number = projectID, projectNumber
	s.Logging = config.Logging{Level: "debug", Format: "json"}
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan string, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	log := new(standintest.Log)
	go func() {
		ended <- daemon.Standalone(ctx, s, daemon.Overrides{}, log, func(clients, _ net.Addr) { listening <- clients.String() })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("standalone ended with: %v", err)
		}
		refuseTokens(t, "the log", log.String())
	})
	select {
	case addr := <-listening:
		return addr
	case err := <-ended:
		t.Fatalf("standalone did not start: %v", err)
		return ""
	}
}

// Every exported getter of Google's Go client returns the same as on GKE.
func TestGoMetadataClient(t *testing.T) {
	for name, target := range targets(t) {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GCE_METADATA_HOST", target.host)
			c := metadata.NewClient(&http.Client{Transport: &http.Transport{}})
			ctx := t.Context()
			one := func(f func(context.Context) (string, error)) (any, error) { return f(ctx) }
			getter := func(f func(context.Context, string) (string, error), argument string) (any, error) {
				return f(ctx, argument)
			}
			many := func(f func(context.Context) ([]string, error)) (any, error) { return f(ctx) }
			type result struct {
				value any // of the result, a check of a string, or nil: not defined, as on GKE
				get   func() (any, error)
			}
			notEmpty := func(s string) bool { return s != "" }
			getters := map[string]result{
				"ProjectID":              {projectID, func() (any, error) { return one(c.ProjectIDWithContext) }},
				"NumericProjectID":       {projectNumber, func() (any, error) { return one(c.NumericProjectIDWithContext) }},
				"InstanceID":             {notEmpty, func() (any, error) { return one(c.InstanceIDWithContext) }},
				"InstanceName":           {notEmpty, func() (any, error) { return one(c.InstanceNameWithContext) }},
				"Hostname":               {notEmpty, func() (any, error) { return one(c.HostnameWithContext) }},
				"Zone":                   {func(s string) bool { return strings.Count(s, "-") == 2 }, func() (any, error) { return one(c.ZoneWithContext) }},
				"Email":                  {target.gsa, func() (any, error) { return getter(c.EmailWithContext, "") }},
				"Scopes":                 {[]string(tokens.DefaultScopes()), func() (any, error) { return c.ScopesWithContext(ctx, "default") }},
				"InstanceAttributes":     {[]string{"cluster-location", "cluster-name", "cluster-uid"}, func() (any, error) { return many(c.InstanceAttributesWithContext) }},
				"InstanceAttributeValue": {notEmpty, func() (any, error) { return getter(c.InstanceAttributeValueWithContext, "cluster-name") }},
				"Get":                    {"googleapis.com", func() (any, error) { return getter(c.GetWithContext, "universe/universe-domain") }},
				// GKE does not serve these paths. Software distinguishes GKE from Compute Engine by their
				// absence.
				"InternalIP":            {nil, func() (any, error) { return one(c.InternalIPWithContext) }},
				"ExternalIP":            {nil, func() (any, error) { return one(c.ExternalIPWithContext) }},
				"InstanceTags":          {nil, func() (any, error) { return many(c.InstanceTagsWithContext) }},
				"ProjectAttributes":     {nil, func() (any, error) { return many(c.ProjectAttributesWithContext) }},
				"ProjectAttributeValue": {nil, func() (any, error) { return getter(c.ProjectAttributeValueWithContext, "ssh-keys") }},
				"OnGCE":                 {true, func() (any, error) { return c.OnGCEWithContext(ctx), nil }},
				"Subscribe": {target.gsa, func() (any, error) {
					var first string
					enough := errors.New("enough")
					err := c.SubscribeWithContext(ctx, "instance/service-accounts/default/email", func(_ context.Context, v string, _ bool) error {
						first = v
						return enough
					})
					if errors.Is(err, enough) {
						err = nil
					}
					return first, err
				}},
			}
			for i := range reflect.TypeOf(c).NumMethod() {
				if method := strings.TrimSuffix(reflect.TypeOf(c).Method(i).Name, "WithContext"); getters[method].get == nil {
					t.Errorf("the client has a getter %s that this test does not cover", method)
				}
			}
			for path, want := range map[string]string{"project/project-id": projectID, "project/numeric-project-id": projectNumber} {
				if got, err := c.GetWithContext(ctx, path); err != nil || got != want {
					t.Errorf("Get %s, which the library does not keep: %q, %v", path, got, err)
				}
			}
			for getter, want := range getters {
				got, err := want.get()
				if check, ok := want.value.(func(string) bool); ok {
					if s, _ := got.(string); err != nil || !check(s) {
						t.Errorf("%s: %q, %v", getter, got, err)
					}
					continue
				}
				if want.value == nil {
					if !errors.As(err, new(metadata.NotDefinedError)) {
						t.Errorf("%s: %v, %v; want it not defined", getter, got, err)
					}
					continue
				}
				if diff := cmp.Diff(want.value, got); diff != "" || err != nil {
					t.Errorf("%s (-want +got):\n%s%v", getter, diff, err)
				}
			}
		})
	}
}

// Default credentials of both generations of Google's Go libraries, with no setting but the
// address of the metadata server.
func TestGoDefaultCredentials(t *testing.T) {
	const scope = "https://www.googleapis.com/auth/devstorage.read_write"
	for name, target := range targets(t) {
		t.Run(name, func(t *testing.T) {
			withoutCredentials(t, target)
			whose := func(t *testing.T, token string) {
				if target.principal == nil {
					return
				}
				if got := target.principal(t, token); got != "serviceAccount:"+target.gsa {
					t.Errorf("token of %q, want %s", got, target.gsa)
				}
			}
			t.Run("golang.org/x/oauth2", func(t *testing.T) {
				found, err := google.FindDefaultCredentials(t.Context(), scope)
				if err != nil {
					t.Fatal(err)
				}
				token, err := found.TokenSource.Token()
				if err != nil {
					t.Fatal(err)
				}
				if found.ProjectID != projectID || token.TokenType != "Bearer" || time.Until(token.Expiry) < 50*time.Minute {
					t.Errorf("project %q, token type %q, expiry in %s", found.ProjectID, token.TokenType, time.Until(token.Expiry))
				}
				whose(t, token.AccessToken)
			})
			t.Run("cloud.google.com/go/auth", func(t *testing.T) {
				found, err := credentials.DetectDefault(&credentials.DetectOptions{Scopes: []string{scope}})
				if err != nil {
					t.Fatal(err)
				}
				token, err := found.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				project, err := found.ProjectID(t.Context())
				if err != nil || project != projectID || token.Type != "Bearer" {
					t.Errorf("project %q (%v), token type %q", project, err, token.Type)
				}
				universe, err := found.UniverseDomain(t.Context())
				if err != nil || universe != "googleapis.com" {
					t.Errorf("universe %q (%v)", universe, err)
				}
				whose(t, token.Value)
			})
			const audience = "https://example.com"
			t.Run("google.golang.org/api/idtoken", func(t *testing.T) {
				source, err := idtoken.NewTokenSource(t.Context(), audience)
				if err != nil {
					t.Fatal(err)
				}
				token, err := source.Token()
				if err != nil {
					t.Fatal(err)
				}
				payload, err := idtoken.ParsePayload(token.AccessToken)
				if err != nil || payload.Audience != audience || payload.Claims["email"] != target.gsa {
					t.Errorf("ID token for %v (%v)", payload, err)
				}
			})
			t.Run("cloud.google.com/go/auth/credentials/idtoken", func(t *testing.T) {
				found, err := authidtoken.NewCredentials(&authidtoken.Options{Audience: audience})
				if err != nil {
					t.Fatal(err)
				}
				token, err := found.Token(t.Context())
				if err != nil || strings.Count(token.Value, ".") != 2 {
					t.Errorf("ID token: %v", err)
				}
			})
		})
	}
}

// withoutCredentials leaves nothing to find but the metadata server.
func withoutCredentials(t *testing.T, target target) {
	t.Helper()
	home := t.TempDir()
	for name, value := range map[string]string{
		"HOME": home, "CLOUDSDK_CONFIG": filepath.Join(home, "gcloud"), "GOOGLE_APPLICATION_CREDENTIALS": "",
		"GCE_METADATA_HOST": target.host, "GCE_METADATA_ROOT": target.host, "GCE_METADATA_IP": target.host,
	} {
		t.Setenv(name, value)
	}
}

// gcloud, as it is installed on this machine.
func TestGcloud(t *testing.T) {
	gcloud, err := exec.LookPath("gcloud")
	if err != nil {
		t.Skip("gcloud is not installed on this machine: ", err)
	}
	for name, target := range targets(t) {
		t.Run(name, func(t *testing.T) {
			withoutCredentials(t, target)
			run := func(args ...string) string {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				command := exec.CommandContext(ctx, gcloud, slices.Concat(args, []string{"--quiet"})...)
				command.Env = append(os.Environ(), "CLOUDSDK_CORE_DISABLE_PROMPTS=1", "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=1", "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=1")
				var stderr strings.Builder
				command.Stderr = &stderr
				output, err := command.Output()
				if err != nil {
					t.Fatalf("gcloud %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
				}
				return strings.TrimSpace(string(output))
			}
			if got := run("auth", "list", "--filter=status:ACTIVE", "--format=value(account)"); got != target.gsa {
				t.Errorf("active account %q, want %s", got, target.gsa)
			}
			access := run("auth", "print-access-token")
			if target.principal != nil {
				if got := target.principal(t, access); got != "serviceAccount:"+target.gsa {
					t.Errorf("access token of %q", got)
				}
			} else if !strings.HasPrefix(access, "ya29.") {
				t.Error("no access token")
			}
			payload, err := idtoken.ParsePayload(run("auth", "print-identity-token", "--audiences=https://example.com"))
			if err != nil || payload.Audience != "https://example.com" || payload.Claims["email"] != target.gsa {
				t.Errorf("identity token: %v %v", payload, err)
			}
		})
	}
}
