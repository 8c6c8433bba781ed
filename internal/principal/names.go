package principal

import "gke-metadata-emulator/identity"

// Names gives the names of a cluster's KSAs in IAM policies.
type Names struct {
	GKEPool       string // PROJECT_ID.svc.id.goog, the pool that GKE or a fleet makes
	ProjectNumber string // of the project that has GKEPool

	// Pool is the operator's own pool, in which Google knows the KSAs by the subject of
	// their tokens: //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL.
	// If it is empty, the KSAs are those of GKEPool.
	Pool string
}

// Member returns the member name that works for this cluster.
//
// Sources: "Workload Identity Federation with Kubernetes" for a pool of the operator's,
// "Workload Identity Federation for GKE" and "Fleet Workload Identity Federation" for
// GKE's (2026-11).
func (n Names) Member(ksa identity.ServiceAccount) string {
	if n.Pool != "" {
		return ownPrincipal(n.Pool, ksa)
	}
	return gkeMember(n.GKEPool, ksa)
}

// Members returns all member names of the KSA, in no order. A principal of any other pool
// is not among them, even with the same subject: there it is another cluster's KSA.
func (n Names) Members(ksa identity.ServiceAccount) []string {
	members := []string{gkeMember(n.GKEPool, ksa), n.gkePrincipal(ksa)}
	if n.Pool != "" {
		// The second subject is that of a provider which maps its subjects to GKE's form.
		members = append(members, ownPrincipal(n.Pool, ksa), gkeSubject(n.Pool, ksa))
	}
	return members
}

// Principal returns the KSA's principal identifier.
func (n Names) Principal(ksa identity.ServiceAccount) string {
	if n.Pool != "" {
		return ownPrincipal(n.Pool, ksa)
	}
	return n.gkePrincipal(ksa)
}

func gkeMember(pool string, ksa identity.ServiceAccount) string {
	return "serviceAccount:" + pool + "[" + ksa.Namespace + "/" + ksa.Name + "]"
}

func (n Names) gkePrincipal(ksa identity.ServiceAccount) string {
	return gkeSubject("//iam.googleapis.com/projects/"+n.ProjectNumber+"/locations/global/workloadIdentityPools/"+n.GKEPool, ksa)
}

func gkeSubject(pool string, ksa identity.ServiceAccount) string {
	return "principal:" + pool + "/subject/ns/" + ksa.Namespace + "/sa/" + ksa.Name
}

// ownPrincipal is the principal of the claim sub of a KSA's token.
func ownPrincipal(pool string, ksa identity.ServiceAccount) string {
	return "principal:" + pool + "/subject/system:serviceaccount:" + ksa.Namespace + ":" + ksa.Name
}
