package examples

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/cluster/deployment"
	"gke-metadata-emulator/integration/internal/checkout"
	"gke-metadata-emulator/integration/internal/process"
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

// startShop starts everything but the daemons' refusals: all that a token needs is set up.
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
	s.allowOperator(t)
	s.logIn(t, s.Google.AuthorizedUserWithQuota(Operator, "", ProjectID))
	s.daemons[federation] = s.serve(t, s.environment(), "--workload-identity-provider="+deployment.Provider)
	s.daemons[impersonation] = s.serve(t, s.environment(), "--credentials=impersonation", "--source-credentials="+s.sourceFile())
	return s
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

// trustCluster makes pool and provider, as docs/federation.md does, and the pool of GKE.
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
	if err := s.Google.AddGKEPool(ProjectID, ProjectNumber); err != nil {
		t.Fatal(err)
	}
	s.tryGcloud(t, "iam workload-identity-pools create "+deploymentPool+" --location=global --project="+ProjectID, "", "")
	_, provider, _ := strings.Cut(deployment.Provider, "/providers/")
	s.tryGcloud(t, "iam workload-identity-pools providers create-oidc "+provider+" --workload-identity-pool="+deploymentPool+" --location=global --project="+ProjectID+
		" --issuer-uri="+s.cluster.Issuer+" --attribute-mapping=google.subject=assertion.sub --jwk-json-path=cluster.json", "", "")
}

// allowOperator gives the operator the right to bill the project. The offline Google knows
// the operator as no owner, so that it asks for each role.
func (s *shop) allowOperator(t *testing.T) {
	t.Helper()
	for _, project := range []string{ProjectID, OtherProjectID} {
		s.Google.Unbind("projects/"+project, "roles/owner", s.operator())
	}
	s.Cloud.Bind("projects/"+ProjectID, serviceUsage, s.operator())
}

func (*shop) operator() string { return "user:" + Operator }

// gcloudLogin is the login of the operator's gcloud, in contrast to that of Application
// Default Credentials.
func (s *shop) gcloudLogin() string { return filepath.Join(s.home, "gcloud-login.json") }

// sourceFile is the file of the daemon's source credential: the one of a mounted Secret.
func (s *shop) sourceFile() string { return filepath.Join(s.folder, "source.json") }

// logIn replaces the operator's Application Default Credentials, also those that the daemon
// has.
func (s *shop) logIn(t *testing.T, file []byte) {
	t.Helper()
	for _, path := range []string{filepath.Join(s.home, credentialsFile), s.sourceFile()} {
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
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
	output, err := s.runIn(t.Context(), t.TempDir(), "bash", "-c", "echo "+browserCode+" | bash -euo pipefail "+quote(file))
	for _, command := range commands {
		if err == nil && strings.HasPrefix(command, "kubectl create secret ") {
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
	if err := os.WriteFile(s.sourceFile(), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// runningDaemon is the product's program.
type runningDaemon struct {
	address string
	log     string // file
}

// serve starts a daemon until the test ends, and waits until it is ready.
func (s *shop) serve(t *testing.T, environment []string, flags ...string) *runningDaemon {
	t.Helper()
	d := &runningDaemon{address: freePort(t), log: filepath.Join(t.TempDir(), "log")}
	admin := freePort(t)
	cmd := exec.Command(s.program, append([]string{
		"serve", "--node-name=" + shopNode, "--kubeconfig=" + s.cluster.Kubeconfig(), "--listen=" + d.address, "--admin-listen=" + admin,
		"--routing=none", "--attestation=ip", "--prefetch=false", "--identity-wait=15s",
		"--project-id=" + ProjectID, "--project-number=" + ProjectNumber, "--cluster-name=cluster-1", "--cluster-location=europe-west1",
	}, flags...)...)
	cmd.Env = environment
	p, err := process.Start("gke-metadata-emulator", d.log, cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), busyWithin)
	defer cancel()
	if err := p.Ready(ctx, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
		if err != nil {
			return err
		}
		_, err = read(http.DefaultClient, request)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return d
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// read returns the body of an answer. Any status except 200 is an error with the body.
func read(client *http.Client, request *http.Request) (string, error) {
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s\n%s", response.Status, body)
	}
	return string(body), err
}

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
	subject := "principal:" + deployment.Pool + "/subject/system:serviceaccount:" + w.namespace + ":" + w.ksa
	switch {
	case role == userRole && w.impersonated:
		return []string{"serviceAccount:" + ProjectID + ".svc.id.goog[" + w.namespace + "/" + w.ksa + "]"}
	case role == userRole:
		return []string{subject}
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
// credential or annotation; no token is cached before.
func (w *workload) untilRefused(t *testing.T, anchor string) string {
	t.Helper()
	var message string
	w.retry(t, "a refusal with #"+anchor, func() error {
		_, err := w.token(t.Context())
		if err == nil {
			return fmt.Errorf("it got a token")
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
	w.retry(t, "a token", func() error {
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

func (w *workload) retry(t *testing.T, condition string, f func() error) {
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
			log, _ := os.ReadFile(w.daemon.log)
			lines := strings.Split(string(log), "\n")
			t.Fatalf("%s: not within %s: %v\nthe daemon's log ends with\n%s", condition, busyWithin, err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
		}
	}
}

// injection is the answers of hosts that the stand-ins do not give.
type injection struct {
	sites  map[string]http.Handler
	google *fakegoogle.Running

	mu     sync.Mutex
	host   string
	status int
	body   string
}

func (i *injection) set(host string, status int, body string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.host, i.status, i.body = host, status, body
}

func (i *injection) clear() { i.set("", 0, "") }

func (i *injection) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	i.mu.Lock()
	injectedHost, status, body := i.host, i.status, i.body
	i.mu.Unlock()
	switch {
	case host == injectedHost && !strings.Contains(r.UserAgent(), "gcloud/"):
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	case host == "oauth2.googleapis.com" && r.URL.Path == "/token":
		i.redeem(w, r)
	default:
		i.sites[host].ServeHTTP(w, r)
	}
}

// browserCode is the code that a browser shows after gcloud auth application-default login.
const browserCode = "4/fake-code"

// redeem gives a refresh token of the operator for the browser's code (RFC 6749, section
// 4.1.3), with the client that gcloud says it is. The offline Google has no such grant.
func (i *injection) redeem(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	form := r.PostForm
	refresh := form.Get("refresh_token")
	if form.Get("grant_type") == "authorization_code" && form.Get("code") == browserCode {
		refresh = fmt.Sprintf("1//fake-login-%d", time.Now().UnixNano())
		if err := i.google.Apply(&fakegoogle.State{Users: []fakegoogle.StateUser{
			{Email: Operator, ClientID: form.Get("client_id"), ClientSecret: form.Get("client_secret"), RefreshToken: refresh},
		}}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		form = url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": form["client_id"], "client_secret": form["client_secret"]}
	}
	request := httptest.NewRequestWithContext(r.Context(), http.MethodPost, "/token", strings.NewReader(form.Encode()))
	request.Header = r.Header.Clone()
	request.Header.Del("Content-Length")
	recorded := httptest.NewRecorder()
	i.google.ServeHTTP(recorded, request)
	var answer map[string]any
	if err := json.Unmarshal(recorded.Body.Bytes(), &answer); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if recorded.Code == http.StatusOK && r.PostForm.Get("grant_type") == "authorization_code" {
		answer["refresh_token"] = refresh
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(recorded.Code)
	_ = json.NewEncoder(w).Encode(answer)
}
