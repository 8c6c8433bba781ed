package server

import "gke-metadata-emulator/identity"

// Facts are what the metadata tree says of the project, the cluster and the node.
// A fact that is empty is not known yet.
type Facts struct {
	ProjectID        string
	NumericProjectID string // digits
	WorkloadPool     string // PROJECT_ID.svc.id.goog
	UniverseDomain   string // googleapis.com

	InstanceID string // up to 20 decimal digits
	Hostname   string
	Zone       string // europe-west1-b

	ClusterName     string
	ClusterLocation string // a region or a zone
	ClusterUID      string

	// What the operator adds below instance/attributes/ and project/attributes/.
	InstanceAttributes map[string]string
	ProjectAttributes  map[string]string
}

// email is what stands where a service account's address does: the GSA's, or
// what GKE says of a KSA that is not linked to one.
func (f Facts) email(w identity.Workload) string {
	switch {
	case w.GSA != "":
		return w.GSA
	case w.PrincipalEmail:
		return "principal://iam.googleapis.com/projects/" + f.NumericProjectID + "/locations/global/workloadIdentityPools/" + f.WorkloadPool +
			"/subject/ns/" + w.KSA.Namespace + "/sa/" + w.KSA.Name
	}
	return f.WorkloadPool
}

// zone is empty where it is not known yet.
func (f Facts) zone() value {
	if f.Zone == "" {
		return text("")
	}
	return text("projects/" + f.NumericProjectID + "/zones/" + f.Zone)
}
