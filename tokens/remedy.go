package tokens

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"gke-metadata-emulator/identity"
)

// refusedRequest is what remedies have to know about a request to Google.
type refusedRequest struct {
	gsa     string // its e-mail address; empty if the request names none
	caller  string // IAM's name of the caller, for a shell command within double quotes
	quota   string // quota project of the operator's credential, or empty
	file    string // of the source credential; empty if it is a Secret
	billing string // NAMESPACE/NAME of the KSA whose annotation names the quota project; empty if none does
	binding string // advice for a caller that lacks a permission on the GSA
	mayHide bool   // IAM can answer such a caller with 404, too

	// Of a token exchange.
	provider string
	subject  Token
}

// googleAnswer is Google's response to a refused request.
type googleAnswer struct {
	service  string // as messages name it
	status   int
	reason   string            // of the google.rpc.ErrorInfo (AIP-193), or empty
	metadata map[string]string // of the google.rpc.ErrorInfo
	code     string            // error code of RFC 6749, or empty
	text     string
}

// refusal is a refused request.
type refusal struct {
	refusedRequest
	googleAnswer
}

// remedy is the way out of one kind of refusal.
type remedy struct {
	anchor  string // heading of docs/troubleshooting.md
	matches func(refusal) bool
	kind    Kind // of the error; empty: as the HTTP status says
	text    func(refusal) string
}

// remedies are searched from the top. Reasons are from google.api.ErrorReason (October
// 2026), codes and texts of STS from "Troubleshoot Workload Identity Federation", except
// where a line names another source. GKE explains each refusal as a missing binding, also
// that of a disabled API (google/kctf#194); here the binding is named only if it can help.
var remedies = []remedy{
	// The consumer is gcloud's own project, which all users without a quota project share;
	// the reason is SERVICE_DISABLED.
	{"quota-project", func(r refusal) bool {
		return strings.Contains(r.text, "requires a quota project") || r.metadata["consumer"] == "projects/764086051850"
	}, Misconfigured, quotaProjectRemedy},
	{"api-disabled", reasonIs("SERVICE_DISABLED"), Misconfigured, enableRemedy},
	{"quota-project", func(r refusal) bool { return r.reason == "USER_PROJECT_DENIED" && r.billing != "" }, Denied, annotatedQuotaRemedy},
	{"quota-project", reasonIs("USER_PROJECT_DENIED"), Misconfigured, ownQuotaRemedy},
	{"vpc-service-controls", func(r refusal) bool {
		return r.reason == "SECURITY_POLICY_VIOLATED" || strings.Contains(r.text, "vpcServiceControlsUniqueIdentifier")
	}, Denied, perimeterRemedy},
	{"organization-policy", func(r refusal) bool {
		reasons := []string{"ORG_RESTRICTION_VIOLATION", "RESOURCE_USAGE_RESTRICTION_VIOLATED", "LOCATION_POLICY_VIOLATED"}
		return slices.Contains(reasons, r.reason) || strings.Contains(r.text, "constraints/")
	}, Denied, constant("A policy of the Google Cloud organization forbids the request. Only an administrator of the organization can change it.")},
	{"account-disabled", func(r refusal) bool { return accountDisabled.MatchString(r.text) }, Denied, func(r refusal) string {
		return "The account can be enabled with:\n" + accountCommand("enable", r.gsa, "")
	}},
	{"insufficient-scope", reasonIs("ACCESS_TOKEN_SCOPE_INSUFFICIENT"), Misconfigured, loginRemedy("The source credential lacks the scope cloud-platform.")},

	{"unknown-signing-key", stsCodeIs("invalid_grant"), Misconfigured, keysRemedy},
	{"attribute-condition", stsCodeIs("unauthorized_client"), Denied, func(r refusal) string {
		return "The provider's attribute condition or mapping excludes this service account. It is shown by:\n" +
			describeCommand(r.provider)
	}},
	{"long-subject", func(r refusal) bool {
		return r.service == stsService && strings.Contains(r.text, "google.subject exceeds the 127 bytes limit")
	}, Denied, constant("Google accepts system:serviceaccount:NAMESPACE:NAME up to 127 bytes, so namespace and name can have 104 bytes together. Use a shorter name.")},
	{"unknown-provider", stsCodeIs("invalid_target"), Misconfigured, unknownProviderRemedy},

	// "Google Cloud session control" (support.google.com/a/answer/9368756) for the first
	// text, "Using OAuth 2.0 to access Google APIs" for the second.
	{"login-expired", func(r refusal) bool {
		return r.service == googleService && (strings.Contains(r.text, "invalid_rapt") || strings.Contains(r.text, "expired or revoked"))
	}, Misconfigured, loginRemedy("The login of the source credential has expired.")},
	{"source-credential-refused", func(r refusal) bool {
		return r.service == googleService && slices.Contains([]string{"invalid_grant", "invalid_client", "unauthorized_client"}, r.code)
	}, Misconfigured, loginRemedy("Google no longer accepts the source credential. Replace a service account's key with a new one; for a user's login, log in again.")},

	{"missing-binding", func(r refusal) bool {
		return r.status == http.StatusForbidden && (r.reason == "" || r.reason == "IAM_PERMISSION_DENIED")
	}, "", func(r refusal) string { return r.binding }},
	{"account-not-found", func(r refusal) bool { return r.service == iamService && r.status == http.StatusNotFound }, "", notFoundRemedy},
}

// Services, as messages name them.
const (
	iamService    = "IAM"
	stsService    = "STS"
	googleService = "Google" // the token endpoint of the source credential
)

// accountDisabled matches IAM's texts about a disabled GSA, for which there is no reason.
var accountDisabled = regexp.MustCompile(`(?i)\bservice account( \S+)? (is|has been) disabled`)

// withRemedy sets the kind of the error that explains r, and adds the remedy.
func withRemedy(e *Error, r refusal) *Error {
	if e.Kind == Unavailable {
		return e // a retry is the remedy
	}
	for _, row := range remedies {
		if !row.matches(r) {
			continue
		}
		e.Kind = cmp.Or(row.kind, e.Kind)
		if text := strings.TrimSuffix(row.text(r), "\n"); text != "" {
			e.Message += "\n" + text
		}
		e.Message += "\n" + seeAlso(row.anchor)
		break
	}
	return e
}

func seeAlso(anchor string) string { return "See docs/troubleshooting.md#" + anchor }

func reasonIs(reason string) func(refusal) bool {
	return func(r refusal) bool { return r.reason == reason }
}

func stsCodeIs(code string) func(refusal) bool {
	return func(r refusal) bool { return r.service == stsService && r.code == code }
}

func constant(text string) func(refusal) string { return func(refusal) string { return text } }

func enableRemedy(r refusal) string {
	if r.metadata["service"] == "" || r.metadata["consumer"] == "" {
		return "Enable the API that Google names."
	}
	return fmt.Sprintf("The API can be enabled with:\ngcloud services enable %s --project=%s", r.metadata["service"], consumer(r))
}

// consumer is the project on whose account a request was made.
func consumer(r refusal) string {
	return cmp.Or(strings.TrimPrefix(r.metadata["consumer"], "projects/"), "PROJECT_ID")
}

func quotaProjectRemedy(r refusal) string {
	return "The source credential is a user's login without a quota project. It can be set with:\n" + setQuotaCommand(r) + "\n" + replaceCredential(r)
}

func setQuotaCommand(r refusal) string {
	return "gcloud auth application-default set-quota-project " + cmp.Or(r.quota, gsaProject(r.gsa), "PROJECT_ID")
}

func annotatedQuotaRemedy(r refusal) string {
	return fmt.Sprintf("The project is named by the annotation %s of service account %s. The role can be granted with:\n%s",
		identity.AnnotationQuotaProject, r.billing, serviceUsageCommand(r))
}

func ownQuotaRemedy(r refusal) string {
	return "The project is the quota project of the source credential. The role can be granted with:\n" + serviceUsageCommand(r)
}

func serviceUsageCommand(r refusal) string {
	return fmt.Sprintf("gcloud projects add-iam-policy-binding %s --role=roles/serviceusage.serviceUsageConsumer --member=\"%s\"", consumer(r), r.caller)
}

func perimeterRemedy(r refusal) string {
	identifier := "the identifier above"
	if uid := r.metadata["uid"]; uid != "" {
		identifier = "identifier " + uid
	}
	return "A VPC Service Controls perimeter forbids the request. Only an administrator of the organization's perimeters can allow it, and finds the reason by " +
		identifier + " in the audit log."
}

// replaceCredential gives a new login to the daemon.
func replaceCredential(r refusal) string {
	if r.file != "" {
		return "The metadata server reads " + r.file + " again when it changes. If gcloud writes the login to another file, move it there."
	}
	return replaceSecret
}

const replaceSecret = "The daemon reads the credential file again when it changes. In a cluster, it is the Secret:\n" +
	"kubectl create secret generic source-credentials --namespace gke-metadata-emulator --dry-run=client --output=yaml " +
	`--from-file="$HOME/.config/gcloud/application_default_credentials.json" | kubectl apply -f -`

// loginRemedy sets the quota project again: a login replaces it by core/project, or by none.
func loginRemedy(problem string) func(refusal) string {
	return func(r refusal) string {
		return problem + "\ngcloud auth application-default login\n" + setQuotaCommand(r) + "\n" + replaceCredential(r)
	}
}

func unknownProviderRemedy(r refusal) string {
	text := "The provider of --workload-identity-provider does not exist, is disabled, or is deleted. Its state is shown by:\n" + describeCommand(r.provider)
	if strings.Contains(r.provider, "/workloadIdentityPools/") {
		text += "\nIf it is deleted, it can be restored within 30 days with:\ngcloud iam workload-identity-pools providers undelete " + providerPath(r.provider)
	}
	return text
}

func notFoundRemedy(r refusal) string {
	text := "Check the annotation " + identity.AnnotationGSA + " of the Kubernetes service account. Its account is shown by:\n" + accountCommand("describe", r.gsa, "")
	if r.reason == "" && r.mayHide {
		text += "\n" + r.binding
	}
	return text
}

// bindingCommand names the missing binding and the command that adds it. The member can
// contain $(…), which the shell replaces.
func bindingCommand(gsa, role, member string) string {
	return fmt.Sprintf("The binding of %s to role %s on %s can be added with:\n%s", member, role, gsa, addBinding(gsa, role, member))
}

// sourceRoleCommand names the role that the operator's credential lacks, and the command
// that grants it.
func sourceRoleCommand(gsa, role, member string) string {
	return fmt.Sprintf("The metadata server's source credential needs %s on %s:\n%s", role, gsa, addBinding(gsa, role, member))
}

func addBinding(gsa, role, member string) string {
	return accountCommand("add-iam-policy-binding", gsa, fmt.Sprintf(" --role=%s --member=\"%s\"", role, member))
}

// accountCommand is a gcloud command about a GSA. Without --project, gcloud would look for
// the GSA in the project of its configuration.
func accountCommand(verb, gsa, flags string) string {
	command := "gcloud iam service-accounts " + verb + " " + gsa + flags
	if project := gsaProject(gsa); project != "" {
		command += " --project=" + project
	}
	return command
}
