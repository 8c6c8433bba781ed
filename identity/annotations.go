package identity

import "regexp"

// gsaAddress is the shape of every address that Google gives a service account,
// so that no annotation can reach outside its place in a URL. Beside
// NAME@PROJECT.iam.gserviceaccount.com these are legal: NUMBER-compute@developer.gserviceaccount.com,
// PROJECT@appspot.gserviceaccount.com, and NAME@PROJECT.DOMAIN.iam.gserviceaccount.com for
// projects of a domain (Google's "Service account types").
var gsaAddress = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+$`)

// annotated reads the KSA's annotations into w.
func (w *Workload) annotated(annotations map[string]string) error {
	w.GSA = annotations[AnnotationGSA]
	w.QuotaProject = annotations[AnnotationQuotaProject]
	w.PrincipalEmail = annotations[AnnotationPrincipalEmail] == "true"
	if w.GSA != "" && !ValidGSA(w.GSA) {
		bad := w.GSA
		w.GSA = ""
		return failf(BadAnnotation, "annotation %s=%q of service account %s/%s is not the e-mail address of a Google service account: "+
			"kubectl annotate serviceaccount --overwrite --namespace %s %s %s=NAME@PROJECT_ID.iam.gserviceaccount.com",
			AnnotationGSA, bad, w.KSA.Namespace, w.KSA.Name, w.KSA.Namespace, w.KSA.Name, AnnotationGSA)
	}
	return nil
}

// ValidGSA says whether email has the shape of a Google service account's address.
func ValidGSA(email string) bool { return len(email) <= 254 && gsaAddress.MatchString(email) }
