package tokens

import (
	"net/http"
	"slices"

	"gke-metadata-emulator/identity"
)

// setQuotaProject sets whose quota a call uses, as GKE does for the KSA's project and calls
// of IAM Credentials; see "Use quota from a different project with Workload Identity
// Federation for GKE".
func setQuotaProject(h http.Header, project string) {
	if project != "" {
		h.Set("X-Goog-User-Project", project)
	}
}

// withQuotaProject removes from w the quota project that it may not use, and returns the
// reason then. Google's IAM checks whether the caller may use a project. In impersonation
// mode the caller is the operator and not the KSA, so the rules have to list the project,
// unless no policy guards the operator's credential.
func (g guarded) withQuotaProject(w identity.Workload) (_ identity.Workload, reasons []string) {
	allowed := g.rules.Load().limitsFor(w.KSA.Namespace).QuotaProjects
	if w.QuotaProject == "" || slices.Contains(allowed, w.QuotaProject) || allowed == nil && g.anyQuotaProject {
		return w, nil
	}
	ignored := w.QuotaProject
	w.QuotaProject = ""
	if w.GSA == "" {
		return w, nil // nothing is billed
	}
	g.log.Warn("the annotation "+identity.AnnotationQuotaProject+" is ignored: the policy file does not list the project in the quotaProjects of the namespace; see docs/policy.md",
		"namespace", w.KSA.Namespace, "serviceaccount", w.KSA.Name, "project", ignored)
	return w, []string{"quota project " + ignored + " is ignored"}
}
