package examples

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/cluster/deployment"
	"gke-metadata-emulator/integration/internal/checkout"
	"gke-metadata-emulator/integration/kubernetes"
)

const (
	shopNamespace = "shop"
	shopNode      = "node-1"
	serviceUsage  = "roles/serviceusage.serviceUsageConsumer"
	tokenPath     = "/computeMetadata/v1/instance/service-accounts/default/token"

	// busyWithin bounds waiting for an effect. The machine may be busy.
	busyWithin = 2 * time.Minute
)

// shop is an Internet of stand-ins, an API server, and one daemon for each way to Google.
type shop struct {
	*Fixture
	cluster  *kubernetes.Cluster
	injected *injection
	program  string
	folder   string // of files
	daemons  map[string]*runningDaemon
	pods     int
}

// startShop starts a shop that has all that a token needs.
func startShop(t *testing.T) *shop {
	t.Helper()
	for _, program := range []string{"gcloud", "kubectl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("this machine has no " + program)
		}
	}
	c := kubernetes.Start(t)
	s := &shop{Fixture: newFixture(t), cluster: c, folder: t.TempDir(), daemons: map[string]*runningDaemon{}}
	s.replaceInternet(t)
	s.program = filepath.Join(s.folder, "gke-metadata-emulator")
	if err := checkout.BuildProduct(t.Context(), s.program); err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{shopNamespace, deployment.Name} {
		if _, err := c.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.Node(t, shopNode, map[string]string{corev1.LabelTopologyZone: "europe-west1-d"})
	if err := os.WriteFile(s.gcloudLogin(), s.Google.AuthorizedUser(Operator, ""), 0o600); err != nil {
		t.Fatal(err)
	}
	s.trustCluster(t)
	s.writeSource(t, s.Google.AuthorizedUserWithQuota(Operator, "", ProjectID))
	s.daemons[federation] = s.serve(t, s.environment(), "--workload-identity-provider="+deployment.Provider)
	s.daemons[impersonation] = s.serve(t, s.environment(), s.impersonationFlags(deploymentPool)...)
	return s
}

func (s *shop) impersonationFlags(pool string) []string {
	return []string{"--credentials=impersonation", "--source-credentials=" + s.sourceFile(), "--workload-identity-pool=" + pool}
}

// replaceInternet puts injected answers before the stand-ins.
func (s *shop) replaceInternet(t *testing.T) {
	t.Helper()
	sites := s.sites()
	s.injected = &injection{sites: sites, google: s.Google}
	injected := map[string]http.Handler{}
	for host := range sites {
		injected[host] = s.injected
	}
	var err error
	if s.internet, err = newInternet(injected); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.CAFile, s.internet.authority, 0o644); err != nil {
		t.Fatal(err)
	}
	s.internet.startProxy(t)
}

// trustCluster makes pool and provider, as docs/federation.md does. The project has no cluster of
// GKE's, and so no pool of GKE's.
func (s *shop) trustCluster(t *testing.T) {
	t.Helper()
	keys, err := s.cluster.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.home, "cluster.json"), keys, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Cloud.Enable(ProjectID, fakegoogle.Services()...)
	s.tryGcloud(t, "iam workload-identity-pools create "+deploymentPool+" --location=global --project="+ProjectID, "", "")
	_, provider, _ := strings.Cut(deployment.Provider, "/providers/")
	s.tryGcloud(t, "iam workload-identity-pools providers create-oidc "+provider+" --workload-identity-pool="+deploymentPool+" --location=global --project="+ProjectID+
		" --issuer-uri="+s.cluster.Issuer+" --attribute-mapping=google.subject=assertion.sub --jwk-json-path=cluster.json", "", "")
}

func (*shop) operator() string { return "user:" + Operator }

// gcloudLogin is the login of the operator's gcloud, in contrast to that of Application
// Default Credentials.
func (s *shop) gcloudLogin() string { return filepath.Join(s.home, "gcloud-login.json") }

// sourceFile is the file of the daemon's source credential: the one of a mounted Secret.
func (s *shop) sourceFile() string { return filepath.Join(s.folder, "source.json") }

// logIn replaces the operator's Application Default Credentials, and the file of the daemon.
// It waits until the daemon has read it: until then, the daemon would get tokens with the
// previous one.
func (s *shop) logIn(t *testing.T, file []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.home, credentialsFile), file, 0o600); err != nil {
		t.Fatal(err)
	}
	before := s.newCredentials(t)
	s.writeSource(t, file)
	retry(t, "the daemon reads the new credential", func() error {
		if s.newCredentials(t) == before {
			return errors.New("it has not read it")
		}
		return nil
	})
}

// newCredentials counts the changes of the source credential in the daemon's log.
func (s *shop) newCredentials(t *testing.T) int {
	t.Helper()
	return strings.Count(s.daemons[impersonation].logged(t), "has changed; its new content is in effect")
}

// writeSource replaces the file at once, as the kubelet does.
func (s *shop) writeSource(t *testing.T, content []byte) {
	t.Helper()
	next := s.sourceFile() + ".new"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, s.sourceFile()); err != nil {
		t.Fatal(err)
	}
}

// setCoreProject sets core/project of the operator's gcloud, or unsets it.
func (s *shop) setCoreProject(t *testing.T, project string) {
	t.Helper()
	content := "[core]\naccount = " + Operator + "\n"
	if project != "" {
		content += "project = " + project + "\n"
	}
	if err := os.WriteFile(filepath.Join(s.home, ".config/gcloud/configurations/config_default"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// paste runs commands in the operator's shell. Where a login asks for the code that a browser
// shows, the operator enters it. A Secret that the commands change comes to the daemon's
// file, as by the kubelet.
func (s *shop) paste(t *testing.T, commands []string) (string, error) {
	t.Helper()
	script := "unset CLOUDSDK_AUTH_ACCESS_TOKEN_FILE; export KUBECONFIG=" + quote(s.cluster.Kubeconfig()) +
		" CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE=" + quote(s.gcloudLogin()) + "\n" + strings.Join(commands, "\n") + "\n"
	file := filepath.Join(t.TempDir(), "paste.sh")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := s.execute(t.Context(), t.TempDir(), "bash", "-c", "echo "+browserCode+" | bash -euo pipefail "+quote(file))
	for _, command := range commands {
		switch {
		case command == "gcloud auth application-default login":
			t.Log("the test entered the code of the login's browser")
		case err == nil && strings.HasPrefix(command, "kubectl create secret "):
			t.Log("the test wrote the Secret to the daemon's file, as a kubelet does")
			s.mountSecret(t)
		}
	}
	return output, err
}

func (s *shop) mountSecret(t *testing.T) {
	t.Helper()
	secret, err := s.cluster.Client.CoreV1().Secrets(deployment.Name).Get(t.Context(), "source-credentials", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	content := secret.Data[filepath.Base(credentialsFile)]
	if len(content) == 0 {
		t.Fatalf("the Secret has no %s", filepath.Base(credentialsFile))
	}
	s.writeSource(t, content)
}
