package examples

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/cluster/deployment"
	"gke-metadata-emulator/integration/examples/fakecloud"
	"gke-metadata-emulator/integration/gcs"
	"gke-metadata-emulator/integration/registry"
)

// The projects of the offline Google, and their owner.
const (
	ProjectID          = deployment.ProjectID
	ProjectNumber      = deployment.ProjectNumber
	OtherProjectID     = "other-project"
	OtherProjectNumber = "112233445566"
	deploymentPool     = "on-prem"       // of deployment.Provider
	FreshProjectID     = "fresh-project" // for one way in; fresh until its test
	FreshProjectNumber = "223344556677"
	BareProjectID      = "bare-project" // for the other
	BareProjectNumber  = "334455667788"
	Operator           = "operator@example.com" // runs the commands of the READMEs
)

// authorities is the path at which a Linux image has the certificates that it trusts.
const authorities = "/etc/ssl/certs/ca-certificates.crt"

const removedWithin = time.Minute

// T is the part of *testing.T that this package needs.
type T interface {
	deployment.T
	Failed() bool
	Log(...any)
	TempDir() string
}

// Fixture is a cluster of two nodes and an Internet of stand-ins, to all examples
// of a run.
type Fixture struct {
	Cluster  *cluster.Cluster
	Google   *fakegoogle.Running // STS, IAM Credentials, OAuth 2.0, and the owners of tokens
	Storage  *gcs.Server         // storage.googleapis.com; its Records have the requests and their callers
	Registry *registry.Server    // LOCATION-docker.pkg.dev; its Records, too
	Cloud    *fakecloud.Server   // the APIs that gcloud calls; Cloud.Bind is add-iam-policy-binding

	// CAFile is a file of certificate authorities, in which the Internet's is the
	// only one. [Fixture.Load] puts it into images.
	CAFile string

	// Program is the path of the product's on this machine. Its image is on the
	// nodes: docker.io/library/gke-metadata-emulator:latest.
	Program string

	internet *internet
	home     string // of the operator
}

// Up makes a fixture that ends with the test.
func Up(t T) *Fixture {
	t.Helper()
	s := newFixture(t)
	s.startCluster(t)
	s.internet.start(t, s.Cluster)
	return s
}

// newFixture makes everything except the cluster, for programs of this machine.
func newFixture(t T) *Fixture {
	t.Helper()
	s := &Fixture{home: t.TempDir()}
	s.Google = fakegoogle.Start(t, fakegoogle.Options{})
	s.Cloud = fakecloud.New(fakecloud.Options{
		Google: s.Google.Server, Operator: "user:" + Operator,
		Projects: map[string]string{
			ProjectID: ProjectNumber, OtherProjectID: OtherProjectNumber, FreshProjectID: FreshProjectNumber, BareProjectID: BareProjectNumber,
		},
	})
	var err error
	if s.Storage, err = gcs.New(gcs.Options{Fake: s.Google.URL, Authorize: s.Cloud.Bucket}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Storage.Close)
	s.Cloud.ServeStorage(s.Storage)
	if s.Registry, err = registry.New(registry.Options{Fake: s.Google.URL, Policy: s.Cloud}); err != nil {
		t.Fatal(err)
	}
	if s.internet, err = newInternet(s.sites()); err != nil {
		t.Fatal(err)
	}
	s.CAFile = filepath.Join(s.home, "internet.pem")
	if err := os.WriteFile(s.CAFile, s.internet.authority, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.makeHome(); err != nil {
		t.Fatal(err)
	}
	s.internet.startProxy(t)
	return s
}

// startCluster starts the cluster. Its pods and nodes resolve the names of the Internet.
func (s *Fixture) startCluster(t T) {
	t.Helper()
	hosts := map[string]string{"metadata.google.internal": "169.254.169.254"}
	for _, name := range s.internet.names() {
		hosts[name] = cluster.Address
	}
	var err error
	s.Cluster, err = cluster.Up(t.Context(), cluster.Config{Nodes: 2, Pods: 60, DNSHosts: hosts, Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	// Pods of the nodes' network, of which the product is one, do not ask the
	// cluster's DNS but the node: a kubelet gives them its /etc/hosts.
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		if hosts[name] == cluster.Address {
			fmt.Fprintf(&lines, "%s %s\n", hosts[name], name)
		}
	}
	for _, n := range s.Cluster.Nodes {
		if _, err := n.Run(t.Context(), "sh", "-c", `printf %s "$1" >>/etc/hosts`, "sh", lines.String()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.addProgram("kubectl", s.Cluster.Kubectl()); err != nil {
		t.Fatal(err)
	}
	s.Program = deployment.LoadTrusting(t, s.Cluster, s.CAFile)
}

// Load gives images to the nodes. An image without trusted certificates at
// /etc/ssl/certs/ca-certificates.crt gets those of the fixture.
func (s *Fixture) Load(t T, images ...cluster.Image) {
	t.Helper()
	for _, image := range images {
		files := map[string]string{authorities: s.CAFile}
		maps.Copy(files, image.Files)
		image.Files = files
		if err := s.Cluster.Load(t.Context(), image); err != nil {
			t.Fatal(err)
		}
	}
}

// Install installs the product by its overlay federation or impersonation, as the README
// describes, until the test ends. With federation the provider is deployment.Provider,
// which trusts the cluster's keys. With impersonation the pool of the KSAs is the same, and
// the source credential is the operator's own, with the rights that docs/impersonation.md
// requires on the GSAs of ProjectID and OtherProjectID. The APIs of ProjectID are enabled.
func (s *Fixture) Install(t T, overlay string) *deployment.Installation {
	t.Helper()
	options := deployment.Options{Overlay: overlay, Google: s.Google.Server}
	s.Cloud.Enable(ProjectID, fakegoogle.Services()...)
	if overlay == "impersonation" {
		for _, project := range []string{ProjectID, OtherProjectID} {
			for _, role := range []string{"roles/iam.serviceAccountTokenCreator", "roles/iam.serviceAccountViewer"} {
				s.Google.Bind("projects/"+project, role, "user:"+Operator)
			}
		}
		options.Before = s.storeCredentials
	}
	return deployment.Install(t, s.Cluster, s.Program, options)
}

// storeCredentials sets the quota project and makes the secret, as docs/impersonation.md
// describes.
func (s *Fixture) storeCredentials(ctx context.Context, c *cluster.Cluster) error {
	file := filepath.Join(s.home, credentialsFile)
	if _, err := s.run(ctx, "gcloud", "auth", "application-default", "set-quota-project", ProjectID); err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = c.Client.CoreV1().Secrets(deployment.Name).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "source-credentials"},
		Data:       map[string][]byte{filepath.Base(file): content},
	}, metav1.CreateOptions{})
	return err
}

// Namespace makes one, which ends with the test.
func (s *Fixture) Namespace(t T, name string) {
	t.Helper()
	namespaces := s.Cluster.Client.CoreV1().Namespaces()
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := namespaces.Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), removedWithin)
		defer cancel()
		if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}
