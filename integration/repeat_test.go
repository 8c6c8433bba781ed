package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/daemon"
)

// Requests that are the same again are answered without that the token's source hears
// of each. What the KSA says counts at the next one all the same.
func TestATokenThatIsAskedForWithoutPauseIsNeverThatOfAnAnnotationBefore(t *testing.T) {
	n := startNode(t, asInstalled).ready(t)
	ns := cluster.Namespace(t, "team-")
	gsas := []string{writer, reader}
	cluster.KSA(t, ns, "app", annotated(gsas[0]))
	for _, gsa := range gsas {
		n.link(ns, "app", gsa)
	}
	created := cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	const changes = 20
	stop := make(chan struct{})
	var clients errgroup.Group
	for range 8 {
		p := n.pod(t, "127.0.1.1")
		clients.Go(func() error {
			for last, seen := gsas[0], 0; ; {
				select {
				case <-stop:
					return nil
				default:
				}
				whose, err := p.whose()
				if err != nil {
					return err
				}
				if whose != last {
					last, seen = whose, seen+1
				}
				if seen > changes {
					return fmt.Errorf("the token changed hands %d times, and the annotation %d times", seen, changes)
				}
			}
		})
	}
	app := n.pod(t, "127.0.1.1")
	for i := range changes {
		cluster.Annotate(t, ns, "app", identity.AnnotationGSA, gsas[(i+1)%2])
		eventually(t, 10*time.Second, "the annotation counts", func() error {
			if got := app.email(); got != gsas[(i+1)%2] {
				return fmt.Errorf("the e-mail address is %s", got)
			}
			return nil
		})
		// From here on nobody has the token of the other.
		if whose, err := app.whose(); err != nil || whose != gsas[(i+1)%2] {
			t.Fatalf("the e-mail address is %s, and the token of %s: %v", gsas[(i+1)%2], whose, err)
		}
	}
	close(stop)
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
	metrics := n.metrics(t)
	asked := count(t, metrics, `gme_http_requests_total\{code="200",endpoint="instance/service-accounts/\{account\}/token"\}`)
	heard := count(t, metrics, `gme_token_cache_requests_total\{cache="tokens",result="hit"\}`)
	t.Logf("%d requests for a token, of which its source has heard %d", asked, heard)
	if asked < 2*heard {
		t.Errorf("%d requests, and the source has heard %d: this test has shown little", asked, heard)
	}

	// A pod that has ended has no token, however often it had one.
	cluster.DeletePod(t, created)
	eventually(t, 10*time.Second, "the pod's connection is refused", func() error {
		if got := app.get(tokenPath); got.status != http.StatusForbidden {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
}

// whose token the pod has now.
func (p *pod) whose() (string, error) {
	got, err := p.try(tokenPath)
	if err != nil || got.status != http.StatusOK {
		return "", fmt.Errorf("%d %s: %w", got.status, got.body, err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
		return "", err
	}
	grant, known := p.node.google.Inspect(answer.AccessToken)
	if !known {
		return "", errors.New("Google does not know the token")
	}
	return grant.Principal[len("serviceAccount:"):], nil
}

// count is one series of the metrics; zero where it is not there.
func count(t *testing.T, metrics, series string) int {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + series + ` (\S+)$`).FindStringSubmatch(metrics)
	if found == nil {
		return 0
	}
	n, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// The audit log is to have a line for each, also where nothing else is written down.
func TestEachTokenThatIsGivenIsAudited(t *testing.T) {
	n := startNode(t, func(s *daemon.Serve) { s.Logging.Level = "info" }).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	n.link(ns, "app", writer)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	const times = 20
	for range times {
		if _, err := app.whose(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 10*time.Second, "each has its line", func() error {
		audit, err := os.ReadFile(n.audit)
		if err != nil {
			return err
		}
		if lines := strings.Count(string(audit), `"request":"accessToken"`); lines != times {
			return fmt.Errorf("%d lines for %d tokens", lines, times)
		}
		return nil
	})
}
