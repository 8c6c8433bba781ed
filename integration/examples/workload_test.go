package examples

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/cluster/deployment"
	"gke-metadata-emulator/integration/kubernetes"
	"net/http"
	"strings"
	"testing"
	"time"
)

// workload is a pod with its own KSA and GSA.
type workload struct {
	*shop
	daemon         *runningDaemon
	namespace, ksa string
	gsa            string
	impersonated   bool
	client         *http.Client
}

// newWorkload makes a workload whose token only needs to be asked for.
func (s *shop) newWorkload(t *testing.T, daemon string) *workload {
	t.Helper()
	s.injected.clear()
	s.Cloud.Enable(ProjectID, fakegoogle.Services()...)
	s.logIn(t, s.Google.AuthorizedUserWithQuota(Operator, "", ProjectID))
	w := &workload{shop: s, daemon: s.daemons[daemon], namespace: shopNamespace, impersonated: daemon == impersonation}
	w.start(t, fmt.Sprintf("app-%d", s.pods+1))
	return w
}

// start starts a pod with a new KSA, and its bindings.
func (w *workload) start(t *testing.T, ksa string) {
	t.Helper()
	w.pods++
	ip := fmt.Sprintf("127.0.1.%d", w.pods)
	w.ksa, w.gsa, w.client = ksa, fmt.Sprintf("account-%d@%s.iam.gserviceaccount.com", w.pods, ProjectID), kubernetes.Client(t, ip)
	w.cluster.KSA(t, w.namespace, w.ksa, map[string]string{identity.AnnotationGSA: w.gsa})
	w.bind()
	w.cluster.RunPod(t, kubernetes.PodSpec{Namespace: w.namespace, Name: fmt.Sprintf("pod-%d", w.pods), KSA: w.ksa, Node: shopNode, IP: ip})
}

// bind adds all bindings on the GSA.
func (w *workload) bind() {
	for _, role := range []string{userRole, tokenCreator, viewer} {
		for _, member := range w.members(role) {
			w.Cloud.Bind(w.gsa, role, member)
		}
	}
}

// members are those that have a role on the GSA.
func (w *workload) members(role string) []string {
	switch {
	case role == userRole:
		return []string{"principal:" + deployment.Pool + "/subject/system:serviceaccount:" + w.namespace + ":" + w.ksa}
	case w.impersonated:
		return []string{w.operator()}
	}
	return nil
}

// token is the answer to a request for a token.
func (w *workload) token(ctx context.Context) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.daemon.address+tokenPath, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Metadata-Flavor", "Google")
	return read(w.client, request)
}

// untilRefused returns the refusal with an anchor. The daemon can need a moment to see a new
// annotation.
func (w *workload) untilRefused(t *testing.T, anchor string) string {
	t.Helper()
	var message string
	retry(t, "a refusal with #"+anchor, func() error {
		_, err := w.token(t.Context())
		if err == nil {
			return errors.New("it got a token")
		}
		message = err.Error()
		if !strings.HasSuffix(strings.TrimSpace(message), "See docs/troubleshooting.md#"+anchor) {
			return err
		}
		return nil
	})
	return message
}

// untilToken retries as client libraries do, because refusals are cached for seconds.
func (w *workload) untilToken(t *testing.T) {
	t.Helper()
	retry(t, "a token", func() error {
		body, err := w.token(t.Context())
		if err != nil {
			return err
		}
		var answer struct {
			Token string `json:"access_token"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			return err
		}
		if grant, known := w.Google.Inspect(answer.Token); !known || grant.Principal != "serviceAccount:"+w.gsa {
			return fmt.Errorf("the token belongs to %q, want %s", grant.Principal, w.gsa)
		}
		return nil
	})
}

func contains(text, part string) error {
	if !strings.Contains(text, part) {
		return fmt.Errorf("%s\nwant %s", text, part)
	}
	return nil
}

// retry retries f until it returns no error.
func retry(t *testing.T, condition string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), busyWithin)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", condition, busyWithin, err)
		}
	}
}
