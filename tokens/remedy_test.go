package tokens

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
)

// intercept answers requests whose path ends with a text; next answers the others.
type intercept struct {
	path string
	transport
	next http.RoundTripper
}

func (i intercept) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, i.path) {
		return i.transport.RoundTrip(r)
	}
	return i.next.RoundTrip(r)
}

// Calls of Google, by the ends of their paths.
const (
	stsCall      = "/v1/token"
	refreshCall  = "google.test/token"
	mintCall     = ":generateAccessToken"
	policyCall   = ":getIamPolicy"
	permission   = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
	gkeSentence  = "This error could be caused by a missing IAM policy binding on the target IAM service account."
	bindingStart = "gcloud iam service-accounts add-iam-policy-binding "
)

// apiError is an error in the form of Google's APIs (AIP-193).
func apiError(status int, message, reason, metadata string) string {
	if reason == "" {
		return fmt.Sprintf(`{"error": {"code": %d, "message": %q}}`, status, message)
	}
	return fmt.Sprintf(`{"error": {"code": %d, "message": %q, "details": [{"@type": "type.googleapis.com/google.rpc.Help"},
		{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": %q, "domain": "googleapis.com", "metadata": {%s}}]}}`, status, message, reason, metadata)
}

func oauthBody(code, description string) string {
	return fmt.Sprintf(`{"error": %q, "error_description": %q}`, code, description)
}

// Refusals that the offline Google gives in tests of their own, with the same remedies, are
// not in this table.
func TestRemedy_FollowsFromReason(t *testing.T) {
	const disabled = "IAM Service Account Credentials API has not been used in project 123456 before or it is disabled. Enable it by visiting https://console.developers.google.com/apis then retry."
	const disabledInfo = `"service": "iamcredentials.googleapis.com", "consumer": "projects/123456"`
	const perimeter = "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: abc-123"
	const setQuota = "\ngcloud auth application-default set-quota-project shop-project\n"
	const login = "\ngcloud auth application-default login\ngcloud auth application-default set-quota-project shop-project\n"
	const secret = "\nkubectl create secret generic source-credentials --namespace gke-metadata-emulator "
	const describeProvider = "\ngcloud iam workload-identity-pools providers describe projects/123456/locations/global/workloadIdentityPools/clusters/providers/shop\n"
	const grantToKSA = bindingStart + testGSA + ` --role=roles/iam.workloadIdentityUser --member="` + testCaller + `" --project=shop-project` + "\n"
	const grantToOperator = bindingStart + testGSA + ` --role=roles/iam.serviceAccountTokenCreator --member="user:developer@example.com" --project=shop-project` + "\n"

	tested := map[string]bool{}
	for _, test := range []struct {
		name     string
		operator bool // impersonation; default: federation
		call     string
		status   int
		body     string
		kind     Kind
		anchor   string
		texts    []string
	}{
		{name: "disabled API", call: mintCall, status: 403, body: apiError(403, disabled, "SERVICE_DISABLED", disabledInfo),
			kind: Misconfigured, anchor: "api-disabled", texts: []string{"IAM returned 403 Forbidden: " + disabled, "\ngcloud services enable iamcredentials.googleapis.com --project=123456\n"}},
		{name: "disabled API of STS", call: stsCall, status: 403, body: apiError(403, "Security Token Service API has not been used.", "SERVICE_DISABLED", `"service": "sts.googleapis.com", "consumer": "projects/shop-project"`),
			kind: Misconfigured, anchor: "api-disabled", texts: []string{"STS returned 403 Forbidden: Security Token Service API has not been used.", "\ngcloud services enable sts.googleapis.com --project=shop-project\n"}},
		{name: "disabled API of the policy", operator: true, call: policyCall, status: 403, body: apiError(403, disabled, "SERVICE_DISABLED", strings.Replace(disabledInfo, "iamcredentials", "iam", 1)),
			kind: Misconfigured, anchor: "api-disabled", texts: []string{"\ngcloud services enable iam.googleapis.com --project=123456\n"}},
		{name: "disabled API without metadata", call: mintCall, status: 403, body: apiError(403, disabled, "SERVICE_DISABLED", ""),
			kind: Misconfigured, anchor: "api-disabled", texts: []string{"Enable the API that Google names."}},
		{name: "no quota project", operator: true, call: mintCall, status: 403, body: apiError(403, "The iamcredentials.googleapis.com API requires a quota project, which is not set by default.", "", ""),
			kind: Misconfigured, anchor: "quota-project", texts: []string{setQuota, secret}},
		{name: "gcloud's own project", operator: true, call: mintCall, status: 403, body: apiError(403, disabled, "SERVICE_DISABLED", `"service": "iam.googleapis.com", "consumer": "projects/764086051850"`),
			kind: Misconfigured, anchor: "quota-project", texts: []string{setQuota, secret}},
		{name: "perimeter", call: mintCall, status: 403, body: apiError(403, perimeter, "SECURITY_POLICY_VIOLATED", `"uid": "abc-123"`),
			kind: Denied, anchor: "vpc-service-controls", texts: []string{"administrator of the organization's perimeters", "identifier abc-123 in the audit log"}},
		{name: "perimeter without a reason", call: mintCall, status: 403, body: apiError(403, perimeter, "", ""),
			kind: Denied, anchor: "vpc-service-controls", texts: []string{"the identifier above"}},
		{name: "organization policy", call: mintCall, status: 403, body: apiError(403, "Request is disallowed by organization's constraints/gcp.restrictServiceUsage constraint", "RESOURCE_USAGE_RESTRICTION_VIOLATED", ""),
			kind: Denied, anchor: "organization-policy", texts: []string{"administrator of the organization"}},
		{name: "organization policy without a reason", call: mintCall, status: 400, body: apiError(400, "The lifetime is forbidden by constraints/iam.allowServiceAccountCredentialLifetimeExtension", "", ""),
			kind: Denied, anchor: "organization-policy"},
		{name: "disabled GSA", call: mintCall, status: 400, body: apiError(400, "Service account "+testGSA+" is disabled.", "", ""),
			kind: Denied, anchor: "account-disabled", texts: []string{"\ngcloud iam service-accounts enable " + testGSA + " --project=shop-project\n"}},
		{name: "disabled GSA as 403", call: mintCall, status: 403, body: apiError(403, "The service account is disabled.", "", ""),
			kind: Denied, anchor: "account-disabled"},
		{name: "scope", operator: true, call: mintCall, status: 403, body: apiError(403, "Request had insufficient authentication scopes.", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", ""),
			kind: Misconfigured, anchor: "insufficient-scope", texts: []string{login, secret}},

		{name: "unknown key", call: stsCall, status: 400, body: oauthBody("invalid_grant", "Error connecting to the given credential's issuer."),
			kind: Misconfigured, anchor: "unknown-signing-key", texts: []string{"signed with key local of issuer " + testIssuer, "\nkubectl get --raw /openid/v1/jwks > jwks.json\n", "If the keys were uploaded", "reachable from the Internet"}},
		{name: "attribute condition", call: stsCall, status: 400, body: oauthBody("unauthorized_client", "The given credential is rejected by the attribute condition."),
			kind: Denied, anchor: "attribute-condition", texts: []string{describeProvider}},
		{name: "long subject", call: stsCall, status: 400, body: oauthBody("invalid_request", "The size of mapped attribute google.subject exceeds the 127 bytes limit. Either modify your attribute mapping"),
			kind: Denied, anchor: "long-subject", texts: []string{"104 bytes"}},
		{name: "unknown provider", call: stsCall, status: 400, body: oauthBody("invalid_target", "The target service indicated by the \"audience\" parameters is invalid."),
			kind: Misconfigured, anchor: "unknown-provider", texts: []string{"--workload-identity-provider", describeProvider, strings.Replace(describeProvider, " describe ", " undelete ", 1)}},

		{name: "session", operator: true, call: refreshCall, status: 400, body: oauthBody("invalid_grant", "reauth related error (invalid_rapt)"),
			kind: Misconfigured, anchor: "login-expired", texts: []string{"login of the source credential has expired", login, secret}},
		{name: "revoked login", operator: true, call: refreshCall, status: 400, body: oauthBody("invalid_grant", "Token has been expired or revoked."),
			kind: Misconfigured, anchor: "login-expired", texts: []string{login, secret}},
		{name: "deleted user", operator: true, call: refreshCall, status: 400, body: oauthBody("invalid_grant", "Account has been deleted"),
			kind: Misconfigured, anchor: "source-credential-refused", texts: []string{login, secret}},

		{name: "missing binding of the operator", operator: true, call: mintCall, status: 403, body: apiError(403, "The caller does not have permission", "", ""),
			kind: Denied, anchor: "missing-binding", texts: []string{gkeSentence, grantToOperator}},
		{name: "missing GSA", call: mintCall, status: 404, body: apiError(404, "Not found; Gaia id not found for email", "", ""),
			kind: NotFound, anchor: "account-not-found", texts: []string{"iam.gke.io/gcp-service-account", "\ngcloud iam service-accounts describe " + testGSA + " --project=shop-project\n", gkeSentence, grantToKSA}},
		{name: "missing GSA of the policy", operator: true, call: policyCall, status: 404, body: apiError(404, "Unknown service account", "", ""),
			kind: NotFound, anchor: "account-not-found", texts: []string{"iam.gke.io/gcp-service-account"}},
		{name: "missing GSA with a reason", call: mintCall, status: 404, body: apiError(404, "Unknown service account", "ACCOUNT_NOT_FOUND", ""),
			kind: NotFound, anchor: "account-not-found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				answer := transport(func(*http.Request) (int, string) { return test.status, test.body })
				g.client = &http.Client{Transport: intercept{strings.TrimPrefix(test.call, "google.test"), answer, g.client.Transport}}
				o := g.federation()
				if test.operator {
					var policy Policy
					if test.call != policyCall {
						policy = AllowAll{}
					}
					o = g.impersonation(gcloudLogin.source(t, g), policy)
				}
				_, err := newEngine(t, o).AccessToken(t.Context(), linked, DefaultScopes())
				e := wantError(t, err, test.kind, test.texts...)
				if got := anchorOf(t, e); got != test.anchor {
					t.Errorf("anchor %s, want %s", got, test.anchor)
				}
				named := strings.Contains(e.Message, gkeSentence) || strings.Contains(e.Message, bindingStart)
				if want := strings.Contains(strings.Join(test.texts, ""), gkeSentence) || test.anchor == "missing-binding"; named != want {
					t.Errorf("a missing binding is named: %t\n%s", named, e)
				}
			})
		})
		tested[test.anchor] = true
	}
	for _, row := range remedies {
		if !tested[row.anchor] {
			t.Errorf("no test of %s", row.anchor)
		}
	}
}

// Without a cluster, the credential is a file and not a Secret.
func TestRemedy_NamesTheFileOfTheSourceCredential(t *testing.T) {
	for call, test := range map[string]struct {
		status int
		body   string
	}{
		refreshCall: {400, oauthBody("invalid_grant", "Token has been expired or revoked.")},
		mintCall:    {403, apiError(403, "The API requires a quota project, which is not set by default.", "", "")},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := googleInBubble(t, 0)
			g.client = &http.Client{Transport: intercept{strings.TrimPrefix(call, "google.test"), transport(func(*http.Request) (int, string) { return test.status, test.body }), g.client.Transport}}
			o := g.impersonation(gcloudLogin.source(t, g), AllowAll{})
			o.SourceFile = "/home/me/emulator.json"
			_, err := newEngine(t, o).AccessToken(t.Context(), linked, DefaultScopes())
			e := wantError(t, err, Misconfigured, "\nThe metadata server reads /home/me/emulator.json again when it changes. ")
			if strings.Contains(e.Message, "kubectl") {
				t.Errorf("a machine without a cluster has no Secret:\n%s", e)
			}
		})
	}
}

// Google's text is enough for errors without a row.
func TestRemedy_UnknownReasonHasNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		g.client = &http.Client{Transport: intercept{mintCall, func(*http.Request) (int, string) {
			return 403, apiError(403, "The consumer is suspended.", "CONSUMER_SUSPENDED", "")
		}, g.client.Transport}}
		_, err := newEngine(t, g.federation()).AccessToken(t.Context(), linked, DefaultScopes())
		if e := wantError(t, err, Denied); e.Message != "Unable to generate access token; IAM returned 403 Forbidden: The consumer is suspended." {
			t.Errorf("message %q", e.Message)
		}
	})
}

var anchorLine = regexp.MustCompile(`See docs/troubleshooting\.md#([a-z0-9-]+)$`)

// anchorOf is the anchor that ends a message. The document must have a heading for it.
func anchorOf(t *testing.T, e *Error) string {
	t.Helper()
	match := anchorLine.FindStringSubmatch(e.Message)
	if match == nil {
		t.Fatalf("the message does not end with an anchor:\n%s", e.Message)
	}
	for line := range strings.Lines(string(must(os.ReadFile("../docs/troubleshooting.md")))) {
		title, found := strings.CutPrefix(strings.TrimSpace(line), "### ")
		if found && strings.ReplaceAll(strings.ToLower(title), " ", "-") == match[1] {
			return match[1]
		}
	}
	t.Errorf("docs/troubleshooting.md has no heading for %s", match[1])
	return match[1]
}

func TestAccountCommand_NeedsNoProjectOfAnAddressWithoutOne(t *testing.T) {
	if got := accountCommand("enable", "123456-compute@developer.gserviceaccount.com", ""); strings.Contains(got, "--project") {
		t.Error(got)
	}
}
