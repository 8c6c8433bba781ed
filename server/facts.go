package server

import (
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/principal"
)

// Facts are the metadata tree's values for the project, the cluster and the node.
// A fact that is empty is not known yet.
type Facts struct {
	ProjectID        string
	NumericProjectID string // digits
	UniverseDomain   string // default: googleapis.com

	Names principal.Names // of the KSAs

	InstanceID string // up to 20 decimal digits
	NodeName   string // instance/name; unlike Hostname it has no domain of Google's
	Hostname   string
	Zone       string // europe-west1-b

	ClusterName     string
	ClusterLocation string // a region or a zone
	ClusterUID      string

	// The operator's additions below instance/attributes/ and project/attributes/.
	InstanceAttributes map[string]string
	ProjectAttributes  map[string]string
}

// email is the caller's service account: the GSA's address, or the text that GKE
// shows in its place for a KSA that is not linked to a GSA.
func (f Facts) email(w identity.Workload) string {
	switch {
	case w.GSA != "":
		return w.GSA
	case w.PrincipalEmail:
		return f.Names.Principal(w.KSA)
	}
	return f.Names.GKEPool
}

// zone is empty if the zone is not known yet.
func (f Facts) zone() value {
	if f.Zone == "" {
		return text("")
	}
	return text("projects/" + f.NumericProjectID + "/zones/" + f.Zone)
}
