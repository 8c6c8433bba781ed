package integration

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/config"
)

// fleetCluster is a cluster in which the daemon may request tokens for the fleet.
type fleetCluster struct {
	*kubernetes.Cluster
	fleet *fleet
	keys  []byte // all signing keys so far, in PEM
	signs string // file of the latest
	check string // file of keys
}

// newFleetCluster starts a cluster, with the namespace shop, that is not registered yet.
func newFleetCluster(t *testing.T, f *fleet) *fleetCluster {
	t.Helper()
	folder := t.TempDir()
	c := &fleetCluster{fleet: f, signs: filepath.Join(folder, "signs.key"), check: filepath.Join(folder, "keys")}
	c.newKey(t)
	var err error
	c.Cluster, err = kubernetes.Up(t.Context(), kubernetes.Config{APIServerFlags: []string{
		"--service-account-signing-key-file=" + c.signs, "--service-account-key-file=" + c.check,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := install(t.Context(), c.Cluster); err != nil {
		t.Fatal(err)
	}
	// As the chart renders it for a membership; its tests show that.
	policies := c.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	policy, err := policies.Get(t.Context(), daemonName+"-tokens", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	policy.Spec.Variables[0].Expression = "['" + fleetPool + "']"
	if _, err := policies.Update(t.Context(), policy, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Namespace(t, "shop")
	return c
}

// newKey makes the next signing key. The earlier ones still verify tokens.
func (c *fleetCluster) newKey(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	c.keys = append(c.keys, text...)
	for file, content := range map[string][]byte{c.signs: text, c.check: c.keys} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// rotate lets the API server sign with another key.
func (c *fleetCluster) rotate(t *testing.T) {
	t.Helper()
	c.newKey(t)
	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := c.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
}

// removeAgent removes the agent's namespace, as a controller does after gcloud's request. The
// cluster has none.
func (c *fleetCluster) removeAgent(t *testing.T) {
	t.Helper()
	namespaces := c.Client.CoreV1().Namespaces()
	if err := namespaces.Delete(t.Context(), agentNamespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	agent, err := namespaces.Get(t.Context(), agentNamespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	agent.Spec.Finalizers = nil
	if _, err := namespaces.Finalize(t.Context(), agent, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// startDaemon starts the daemon of the cluster's only node.
func (c *fleetCluster) startDaemon(t *testing.T) *node {
	t.Helper()
	return startNodeOn(t, c.Cluster, c.fleet.google, func(s *config.Serve) {
		s.Provider.Name, s.Project.Number = "https://gkehub.googleapis.com/"+membership, projectNumber
	}).ready(t)
}

// runPod runs a pod with a KSA of the same name.
func (c *fleetCluster) runPod(t *testing.T, n *node, name, ip string) *fleetPod {
	t.Helper()
	c.KSA(t, "shop", name, nil)
	c.RunPod(t, kubernetes.PodSpec{Namespace: "shop", Name: name, KSA: name, Node: n.name, IP: ip})
	return c.pod(t, n, ip)
}

func (c *fleetCluster) pod(t *testing.T, n *node, ip string) *fleetPod {
	return &fleetPod{n.pod(t, ip)}
}

// run pastes a command into the operator's shell. For a KSA, the shell has the values of
// Google's placeholders, and gcloud a project: Google's page begins with gcloud init, which
// sets one. Other commands name their project.
func (c *fleetCluster) run(t *testing.T, ksa, command string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // gcloud takes 2 s on an idle machine
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", command)
	cmd.Env = append(c.fleet.environment(), "KUBECONFIG="+c.Kubeconfig())
	if ksa != "" {
		name, _, _ := strings.Cut(writer, "@")
		cmd.Env = append(cmd.Env, "CLOUDSDK_CORE_PROJECT="+projectID,
			"IAM_SA_NAME="+name, "IAM_SA_PROJECT_ID="+projectID, "PROJECT_ID="+projectID, "NAMESPACE=shop", "KSA_NAME="+ksa)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", command, err, stderr.String())
	}
	return string(output), err
}

// succeeds returns the output of a command.
func (c *fleetCluster) succeeds(t *testing.T, ksa, command string) string {
	t.Helper()
	output, err := c.run(t, ksa, command)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// fails runs a command that has to end with an error text.
func (c *fleetCluster) fails(t *testing.T, ksa, command, text string) {
	t.Helper()
	if _, err := c.run(t, ksa, command); err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("%s: %v, want an error with %s", command, err, text)
	}
}

// fleetPod is a pod that retries as client libraries do, because refusals are cached for seconds.
type fleetPod struct{ *pod }

// untilGranted waits for a token, which has to be that of the GSA.
func (p *fleetPod) untilGranted() {
	p.t.Helper()
	eventually(p.t, deadline, "a token", func() error {
		if got := p.get(tokenPath); got.status != http.StatusOK {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
	if got := p.grant(); got.Principal != "serviceAccount:"+writer || got.KSA != "shop/app" {
		p.t.Errorf("the token is that of %s, minted for KSA %s; want that of %s for shop/app", got.Principal, got.KSA, writer)
	}
}

// untilRefused waits for a refusal that contains a text. A token before that is a failure.
func (p *fleetPod) untilRefused(text string) {
	p.t.Helper()
	eventually(p.t, deadline, "a refusal with "+text, func() error {
		got := p.get(tokenPath)
		if got.status == http.StatusOK {
			p.t.Fatal("the pod gets a token")
		}
		if !strings.Contains(got.body, text) {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
}
