package examples

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/cluster/deployment"
)

// refusedCall is a refusal by Google, and how it comes about.
type refusedCall struct {
	name   string
	anchor string // heading of docs/troubleshooting.md, at the end of the message
	daemon string // its --credentials
	cause  func(*testing.T, *workload)

	says  string // part of a message without a command
	fails string // error text of the commands, which only show the state
	// mend is the part that no printed command does, with its description.
	mend    func(*testing.T, *workload)
	mending string
}

const (
	federation    = "federation"
	impersonation = "impersonation"

	tokenCreator = "roles/iam.serviceAccountTokenCreator"
	viewer       = "roles/iam.serviceAccountViewer"
)

// refusals are those of tokens/remedy.go.
var refusals = []refusedCall{
	{name: "disabled API of STS", anchor: "api-disabled", daemon: federation, cause: disableAPI(fakegoogle.ServiceSTS)},
	{name: "disabled API of IAM Credentials", anchor: "api-disabled", daemon: federation, cause: disableAPI(fakegoogle.ServiceIAMCredentials)},
	{name: "disabled API of IAM Credentials", anchor: "api-disabled", daemon: impersonation, cause: disableAPI(fakegoogle.ServiceIAMCredentials)},
	{name: "disabled API of the policy", anchor: "api-disabled", daemon: impersonation, cause: disableAPI(fakegoogle.ServiceIAM)},

	{name: "missing binding", anchor: "missing-binding", daemon: federation, cause: unbind(userRole)},
	{name: "missing binding", anchor: "missing-binding", daemon: impersonation, cause: unbind(userRole)},
	{name: "operator who may not read the policy", anchor: "missing-binding", daemon: impersonation, cause: func(t *testing.T, w *workload) {
		// A user who can add the binding can read the policy, too: this is for key files.
		w.logIn(t, w.key(t))
		w.Cloud.Bind(w.gsa, tokenCreator, "serviceAccount:"+keyed)
	}},
	{name: "operator who may not impersonate", anchor: "missing-binding", daemon: impersonation, cause: unbind(tokenCreator)},

	{name: "disabled GSA", anchor: "account-disabled", daemon: federation, cause: disableAccount},
	{name: "disabled GSA", anchor: "account-disabled", daemon: impersonation, cause: disableAccount},
	{name: "missing GSA", anchor: "account-not-found", daemon: federation, cause: removeAccount, fails: "NOT_FOUND", mend: createAccountAgain, mending: "the operator creates the GSA and its binding"},
	{name: "missing GSA", anchor: "account-not-found", daemon: impersonation, cause: removeAccount, fails: "NOT_FOUND", mend: createAccountAgain, mending: "the operator creates the GSA and its bindings"},

	{name: "quota project of the KSA", anchor: "quota-project", daemon: federation, cause: func(t *testing.T, w *workload) {
		w.cluster.Annotate(t, w.namespace, w.ksa, identity.AnnotationQuotaProject, OtherProjectID)
		w.Cloud.Enable(OtherProjectID, fakegoogle.Services()...)
	}},
	{name: "quota project of the operator", anchor: "quota-project", daemon: impersonation, cause: func(t *testing.T, w *workload) {
		w.Cloud.Enable(OtherProjectID, fakegoogle.Services()...)
		for _, role := range []string{"roles/owner", serviceUsage} {
			w.Cloud.Unbind("projects/"+OtherProjectID, role, w.operator())
		}
		w.logIn(t, w.Google.AuthorizedUserWithQuota(Operator, "", OtherProjectID))
	}},
	{name: "no quota project", anchor: "quota-project", daemon: impersonation, cause: func(t *testing.T, w *workload) {
		w.logIn(t, w.Google.AuthorizedUser(Operator, ""))
	}},

	{name: "perimeter", anchor: "vpc-service-controls", daemon: federation, cause: func(_ *testing.T, w *workload) {
		w.Google.ProhibitAPI(ProjectNumber, fakegoogle.ServiceIAMCredentials)
	}, says: "Only an administrator of the organization's perimeters can allow it, and finds the reason by identifier ", mend: func(_ *testing.T, w *workload) {
		w.Google.EnableAPI(ProjectNumber, fakegoogle.ServiceIAMCredentials)
	}, mending: "the administrator allows the call"},
	{name: "organization policy", anchor: "organization-policy", daemon: federation, cause: answer("iamcredentials.googleapis.com", http.StatusForbidden,
		`{"error": {"code": 403, "message": "Request is disallowed by organization's constraints/gcp.restrictServiceUsage constraint", "status": "PERMISSION_DENIED"}}`),
		says: "Only an administrator of the organization can change it.", mend: answerAgain, mending: "the administrator changes the policy"},

	{name: "unknown key", anchor: "unknown-signing-key", daemon: federation, cause: forgetKeys},
	{name: "deleted provider", anchor: "unknown-provider", daemon: federation, cause: func(t *testing.T, w *workload) {
		w.tryGcloud(t, "iam workload-identity-pools providers delete --quiet "+strings.TrimPrefix(deployment.Provider, "//iam.googleapis.com/"), "", "")
	}},
	{name: "attribute condition", anchor: "attribute-condition", daemon: federation, cause: answer("sts.googleapis.com", http.StatusBadRequest,
		`{"error": "unauthorized_client", "error_description": "The given credential is rejected by the attribute condition."}`),
		mend: answerAgain, mending: "the operator corrects the condition that the command shows"},
	{name: "long subject", anchor: "long-subject", daemon: federation, cause: func(t *testing.T, w *workload) {
		w.start(t, w.ksa+strings.Repeat("-long", 20))
	}, says: "Use a shorter name.", mend: func(t *testing.T, w *workload) { w.start(t, "short") }, mending: "the user takes a shorter name"},

	{name: "expired login", anchor: "login-expired", daemon: impersonation, cause: func(t *testing.T, w *workload) {
		const user = "expired@example.com" // the sessions of the operator's gcloud do not end
		w.logIn(t, w.Google.AuthorizedUserWithQuota(user, "", ProjectID))
		w.Google.EndSessions(user)
	}},
	{name: "revoked login", anchor: "login-expired", daemon: impersonation, cause: func(t *testing.T, w *workload) {
		revoked := w.Google.AuthorizedUserWithQuota(Operator, "", ProjectID)
		w.logIn(t, []byte(strings.Replace(string(revoked), `"refresh_token": "1//`, `"refresh_token": "1//revoked-`, 1)))
	}},
	{name: "deleted client", anchor: "source-credential-refused", daemon: impersonation, cause: func(t *testing.T, w *workload) {
		file := w.Google.AuthorizedUserWithQuota(Operator, "", ProjectID)
		w.logIn(t, []byte(strings.Replace(string(file), `"client_id": "`, `"client_id": "0`, 1)))
	}},
	{name: "deleted key", anchor: "source-credential-refused", daemon: impersonation, cause: func(t *testing.T, w *workload) {
		w.logIn(t, w.key(t))
		w.Google.RemoveServiceAccount(keyed)
	}},
	{name: "scope", anchor: "insufficient-scope", daemon: impersonation, cause: func(t *testing.T, w *workload) {
		w.logIn(t, w.Google.AuthorizedUserWithQuota(Operator, "", ProjectID))
		answer("iam.googleapis.com", http.StatusForbidden, `{"error": {"code": 403, "message": "Request had insufficient authentication scopes.", "status": "PERMISSION_DENIED",
			"details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "domain": "googleapis.com"}]}}`)(t, w)
	}, mend: answerAgain, mending: "the login has all scopes again"},
}

// keyed is the owner of a key file.
const keyed = "emulator@" + ProjectID + ".iam.gserviceaccount.com"

func (w *workload) key(t *testing.T) []byte {
	t.Helper()
	file, err := w.Google.ServiceAccountKey(keyed, "https://oauth2.googleapis.com/token")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func disableAPI(service string) func(*testing.T, *workload) {
	return func(_ *testing.T, w *workload) {
		w.Google.DisableAPI(ProjectID, service)
		w.Google.DisableAPI(ProjectNumber, service)
	}
}

func unbind(role string) func(*testing.T, *workload) {
	return func(_ *testing.T, w *workload) {
		for _, member := range w.members(role) {
			w.Cloud.Unbind(w.gsa, role, member)
		}
	}
}

func disableAccount(_ *testing.T, w *workload) { w.Google.DisableServiceAccount(w.gsa) }

func removeAccount(_ *testing.T, w *workload) { w.Google.RemoveServiceAccount(w.gsa) }

func createAccountAgain(t *testing.T, w *workload) {
	name, _, _ := strings.Cut(w.gsa, "@")
	w.tryGcloud(t, "iam service-accounts create "+name+" --project="+ProjectID, "", "")
	w.bind()
}

// forgetKeys gives the provider the keys of another cluster.
func forgetKeys(t *testing.T, w *workload) {
	w.writeKeys(t, "other.json")
	w.tryGcloud(t, "iam workload-identity-pools providers update-oidc "+strings.TrimPrefix(deployment.Provider, "//iam.googleapis.com/")+" --jwk-json-path=other.json", "", "")
}

// answer is the answer of a host instead of the stand-in's, for refusals that the offline
// Google does not know.
func answer(host string, status int, body string) func(*testing.T, *workload) {
	return func(_ *testing.T, w *workload) { w.injected.set(host, status, body) }
}

func answerAgain(_ *testing.T, w *workload) { w.injected.clear() }

// Each refusal is provoked, the commands of its message are pasted into a shell with the real
// gcloud and kubectl, and the token comes. All share one API server.
func TestRemedies_CommandsWorkVerbatim(t *testing.T) {
	s := startShop(t)
	t.Run("pool", s.createsPool)
	t.Run("unreachable", s.unreachable)
	for _, project := range []string{"", OtherProjectID} {
		name := "core-project-unset"
		if project != "" {
			name = "core-project-of-another"
		}
		t.Run(name, func(t *testing.T) {
			s.setCoreProject(t, project)
			for _, r := range refusals {
				if project != "" && r.says != "" {
					continue // no command
				}
				t.Run(r.daemon+"/"+r.name, func(t *testing.T) { s.mends(t, r) })
			}
		})
	}
}

// A project without a pool: no binding can name the KSA. The reader of the refusal creates a
// pool, and the next refusal names the KSA in it.
func (s *shop) createsPool(t *testing.T) {
	w := s.newWorkload(t, impersonation)
	unbind(userRole)(t, w)
	s.setCoreProject(t, "")
	const name = "shop-cluster"
	withPool := s.impersonationFlags(name)
	w.daemon = s.serve(t, s.environment(), withPool[:len(withPool)-1]...)
	commands := pasteable(w.untilRefused(t, "missing-binding"))
	if len(commands) != 2 || !strings.HasSuffix(commands[1], "/NAME") {
		t.Fatalf("commands %q, want the binding and the creation of a pool", commands)
	}
	if _, err := s.paste(t, commands[:1]); err == nil || !strings.Contains(err.Error(), "Identity Pool does not exist") {
		t.Fatalf("a binding without a pool: %v", err)
	}
	create := strings.Replace(commands[1], "NAME", name, 1)
	t.Logf("$ %s", create)
	if _, err := s.paste(t, []string{create}); err != nil {
		t.Fatal(err)
	}
	t.Log("not by a command: the operator sets --workload-identity-pool=" + name)
	w.daemon = s.serve(t, s.environment(), withPool...)
	commands = pasteable(w.untilRefused(t, "missing-binding"))
	t.Logf("$ %s", strings.Join(commands, "\n"))
	if _, err := s.paste(t, commands); err != nil {
		t.Fatal(err)
	}
	w.untilToken(t)
}

// Each section about a refusal by Google has a test.
func TestRemedies_CoverTheTroubleshootingPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(sourceRoot(t), "docs/troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Refusals by Google\n")
	section, _, _ = strings.Cut(section, "\n## ")
	headings := 0
	for line := range strings.Lines(section) {
		title, found := strings.CutPrefix(strings.TrimSpace(line), "### ")
		if !found {
			continue
		}
		headings++
		anchor := strings.ReplaceAll(strings.ToLower(title), " ", "-")
		if !slices.ContainsFunc(refusals, func(r refusedCall) bool { return r.anchor == anchor }) {
			t.Errorf("no test provokes the refusal of %q", title)
		}
	}
	if headings == 0 {
		t.Error("the page has no section about refusals")
	}
}

// mends leads a workload from the refusal to a token.
func (s *shop) mends(t *testing.T, r refusedCall) {
	w := s.newWorkload(t, r.daemon)
	r.cause(t, w)
	message := w.untilRefused(t, r.anchor)
	commands := pasteable(message)
	if r.says == "" && len(commands) == 0 || !strings.Contains(message, r.says) {
		t.Fatalf("no command, or no text %q:\n%s", r.says, message)
	}
	if r.says != "" && len(commands) > 0 {
		t.Errorf("commands for a refusal that none can mend: %q", commands)
	}
	for _, command := range commands {
		t.Logf("$ %s", command)
	}
	output, err := s.paste(t, commands)
	switch {
	case r.fails == "" && err != nil:
		t.Fatalf("%v\nof the message:\n%s", err, message)
	case r.fails != "" && (err == nil || !strings.Contains(err.Error(), r.fails)):
		t.Fatalf("%q, %v, want an error with %s", output, err, r.fails)
	}
	if r.mend != nil {
		t.Logf("not by a command: %s", r.mending)
		r.mend(t, w)
	}
	w.untilToken(t)
}

// pasteable are the lines of a message that a user pastes into a shell.
func pasteable(message string) []string {
	var commands []string
	for line := range strings.Lines(message) {
		if strings.HasPrefix(line, "gcloud ") || strings.HasPrefix(line, "kubectl ") {
			commands = append(commands, strings.TrimSpace(line))
		}
	}
	return commands
}
