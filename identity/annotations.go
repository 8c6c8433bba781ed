package identity

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// The annotations of a Kubernetes service account that GKE supports; see
// "About Workload Identity Federation for GKE" in Google's documentation.
const (
	AnnotationGSA            = "iam.gke.io/gcp-service-account"
	AnnotationQuotaProject   = "iam.gke.io/credential-quota-project"
	AnnotationPrincipalEmail = "iam.gke.io/return-principal-id-as-email"
	// AnnotationDelegates is a JSON list. Google's Secret Manager provider for the
	// Secrets Store CSI driver reads it together with the annotation of the GSA.
	AnnotationDelegates = "iam.gke.io/gcp-service-account-delegates"
)

// annotation is a supported annotation. All others are ignored.
type annotation struct {
	key     string
	meaning string                               // of a valid value, for the error
	example string                               // of a valid value, as kubectl's argument
	set     func(w *Workload, value string) bool // reports whether the value is valid; w changes only if it is
	ignored bool                                 // an invalid value is a warning, not an error
}

// supportedAnnotations are in the order in which they are parsed: delegates need a GSA.
func supportedAnnotations() [4]annotation {
	return [...]annotation{
		{AnnotationGSA, "the e-mail address of a Google service account", "NAME@PROJECT_ID.iam.gserviceaccount.com", setGSA, false},
		{AnnotationDelegates, "a JSON list of up to 8 e-mail addresses of Google service accounts", `'["NAME@PROJECT_ID.iam.gserviceaccount.com"]'`, setDelegates, false},
		{AnnotationQuotaProject, "the ID of a Google project", "PROJECT_ID", setQuotaProject, false},
		{AnnotationPrincipalEmail, "true or false, and is ignored", "true", setPrincipalEmail, true},
	}
}

// parseAnnotations reads the annotations of the KSA of w into w. With an error, which is
// of the reason [BadAnnotation], w has no GSA.
func (w *Workload) parseAnnotations(values map[string]string) error {
	w.GSA, w.Delegates, w.QuotaProject, w.PrincipalEmail, w.Warning = "", "", "", false, ""
	for _, a := range supportedAnnotations() {
		value := values[a.key]
		if value == "" || a.set(w, value) {
			continue
		}
		err := badAnnotation(w.KSA, a, value)
		if !a.ignored {
			w.GSA = ""
			return err
		}
		w.Warning = err.Message
	}
	return nil
}

// badAnnotation quotes the first 256 characters of a value: an annotation can have 256 KiB.
func badAnnotation(ksa ServiceAccount, a annotation, value string) *Error {
	return errorf(BadAnnotation, "annotation %s=%.256q of service account %s/%s is not %s: "+
		"kubectl annotate serviceaccount --overwrite --namespace %s %s %s=%s",
		a.key, value, ksa.Namespace, ksa.Name, a.meaning, ksa.Namespace, ksa.Name, a.key, a.example)
}

func setGSA(w *Workload, email string) bool {
	if !ValidGSA(email) {
		return false
	}
	w.GSA = email
	return true
}

// maxDelegates bounds the length of a request to Google.
const maxDelegates = 8

func setDelegates(w *Workload, list string) bool {
	if w.GSA == "" {
		return true // ignored
	}
	var delegates []string
	if json.Unmarshal([]byte(list), &delegates) != nil || len(delegates) > maxDelegates ||
		slices.ContainsFunc(delegates, func(email string) bool { return !ValidGSA(email) }) {
		return false
	}
	w.Delegates = strings.Join(delegates, ",")
	return true
}

func setQuotaProject(w *Workload, id string) bool {
	if !ValidQuotaProject(id) {
		return false
	}
	w.QuotaProject = id
	return true
}

func setPrincipalEmail(w *Workload, value string) bool {
	w.PrincipalEmail = value == "true" // Google documents no other spelling
	return w.PrincipalEmail || value == "false"
}

// gsaAddress matches every address that Google gives a service account, so no annotation
// can change the path of a URL. Besides NAME@PROJECT.iam.gserviceaccount.com these are
// valid: NUMBER-compute@developer.gserviceaccount.com, PROJECT@appspot.gserviceaccount.com,
// and NAME@PROJECT.DOMAIN.iam.gserviceaccount.com for domain-scoped projects (Google's
// "Service account types").
var gsaAddress = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+$`)

// ValidGSA reports whether email has the form of a Google service account's address.
func ValidGSA(email string) bool { return len(email) <= 254 && gsaAddress.MatchString(email) }

// quotaProject matches the ID or the number of a project, also a domain-scoped one.
var quotaProject = regexp.MustCompile(`^[a-z0-9][a-z0-9.:-]*$`)

// ValidQuotaProject reports whether id has the form of a project's ID or number. It checks
// the length itself: a regular expression with a counted
// repetition is compiled to that many copies.
func ValidQuotaProject(id string) bool { return len(id) <= 254 && quotaProject.MatchString(id) }
