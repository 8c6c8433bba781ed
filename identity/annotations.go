package identity

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// maxDelegates bounds what one annotation can make of a call to Google.
const maxDelegates = 8

// gsaAddress is the shape of every address that Google gives a service account,
// so that no annotation can reach outside its place in a URL. Beside
// NAME@PROJECT.iam.gserviceaccount.com these are legal: NUMBER-compute@developer.gserviceaccount.com,
// PROJECT@appspot.gserviceaccount.com, and NAME@PROJECT.DOMAIN.iam.gserviceaccount.com for
// projects of a domain (Google's "Service account types").
var gsaAddress = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+$`)

// quotaProject is the ID or the number of a project, that of a domain included.
var quotaProject = regexp.MustCompile(`^[a-z0-9][a-z0-9.:-]*$`)

// annotated reads the KSA's annotations into w.
func (w *Workload) annotated(annotations map[string]string) error {
	w.GSA, w.Delegates = annotations[AnnotationGSA], ""
	w.QuotaProject = annotations[AnnotationQuotaProject]
	w.PrincipalEmail = annotations[AnnotationPrincipalEmail] == "true"
	if w.GSA != "" && !ValidGSA(w.GSA) {
		return w.badAnnotation(AnnotationGSA, &w.GSA, "the e-mail address of a Google service account", "NAME@PROJECT_ID.iam.gserviceaccount.com")
	}
	if list := annotations[AnnotationDelegates]; list != "" && w.GSA != "" {
		var delegates []string
		if json.Unmarshal([]byte(list), &delegates) != nil || len(delegates) > maxDelegates || slices.ContainsFunc(delegates, func(d string) bool { return !ValidGSA(d) }) {
			w.Delegates, w.GSA = list, ""
			return w.badAnnotation(AnnotationDelegates, &w.Delegates, "a JSON list of up to 8 e-mail addresses of Google service accounts", `'["NAME@PROJECT_ID.iam.gserviceaccount.com"]'`)
		}
		w.Delegates = strings.Join(delegates, ",")
	}
	if w.QuotaProject != "" && !validQuotaProject(w.QuotaProject) {
		return w.badAnnotation(AnnotationQuotaProject, &w.QuotaProject, "the ID of a Google project", "PROJECT_ID")
	}
	return nil
}

// badAnnotation takes the value back and says what to put there.
func (w *Workload) badAnnotation(key string, value *string, what, form string) error {
	bad := *value
	*value = ""
	return failf(BadAnnotation, "annotation %s=%q of service account %s/%s is not %s: "+
		"kubectl annotate serviceaccount --overwrite --namespace %s %s %s=%s",
		key, bad, w.KSA.Namespace, w.KSA.Name, what, w.KSA.Namespace, w.KSA.Name, key, form)
}

// validQuotaProject counts apart: a counted repetition is compiled once for each time.
func validQuotaProject(id string) bool { return len(id) <= 254 && quotaProject.MatchString(id) }

// ValidGSA says whether email has the shape of a Google service account's address.
func ValidGSA(email string) bool { return len(email) <= 254 && gsaAddress.MatchString(email) }
