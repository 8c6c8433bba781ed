package fakegoogle

import (
	"fmt"
	"regexp"
)

// Membership is a cluster's membership in a fleet. The Security Token Service accepts
// the tokens of the cluster's issuer in the fleet's pool, where they have the names
// that GKE gives a KSA: serviceAccount:POOL[NAMESPACE/KSA] and .../POOL/subject/ns/NAMESPACE/sa/KSA.
//
// The audience of a token exchange is identitynamespace:POOL:NAME, that of the KSA's
// token POOL (GoogleCloudPlatform/secrets-store-csi-driver-provider-gcp,
// fleet-wif-notes.md).
type Membership struct {
	// Name is https://gkehub.googleapis.com/projects/PROJECT/locations/LOCATION/memberships/MEMBERSHIP.
	Name string
	// WorkloadPool is the fleet's pool: PROJECT_ID.svc.id.goog of the fleet's host
	// project. It is created if it does not exist.
	WorkloadPool string
	// ProjectNumber is the number of the fleet's host project.
	ProjectNumber string
	// Issuer is the claim iss of the cluster's tokens: an https:// URL.
	Issuer string
	// JWKS is the issuer's key set, as JSON: RSA keys and EC keys on P-256.
	JWKS []byte
}

const membershipForm = "https://gkehub.googleapis.com/projects/PROJECT/locations/LOCATION/memberships/MEMBERSHIP"

var (
	membershipName = regexp.MustCompile(`^https://gkehub\.googleapis\.com/projects/[a-z0-9.:-]+/locations/[a-z0-9-]+/memberships/[a-z0-9-]{1,63}$`)

	// membershipAudience matches the audience of a token exchange with a membership.
	membershipAudience = regexp.MustCompile(`^identitynamespace:[^:]+:https://gkehub\.googleapis\.com/projects/.+$`)
)

// AddMembership registers a cluster in a fleet, and replaces a membership of the same
// name. The error names the field that Google would refuse.
func (s *Server) AddMembership(m Membership) error {
	parsed, err := newMembership(m)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ensureProvider(parsed)
}

func newMembership(m Membership) (*provider, error) {
	if !membershipName.MatchString(m.Name) {
		return nil, fmt.Errorf("fakegoogle: membership name %q is not of the form %s", m.Name, membershipForm)
	}
	if err := checkGKEPool(m.WorkloadPool, m.ProjectNumber); err != nil {
		return nil, err
	}
	if len(m.JWKS) == 0 {
		return nil, fmt.Errorf("fakegoogle: JWKS of membership %s: %w", m.Name, errNoKeys())
	}
	parsed, err := newIssuer(Provider{Name: m.Name, Issuer: m.Issuer, JWKS: m.JWKS, AllowedAudiences: []string{m.WorkloadPool}}, "membership")
	if err != nil {
		return nil, err
	}
	parsed.gke = true
	parsed.poolID, parsed.number = m.WorkloadPool, m.ProjectNumber
	parsed.pool = gkePoolName(m.WorkloadPool, m.ProjectNumber)
	parsed.audience = "identitynamespace:" + m.WorkloadPool + ":" + m.Name
	return parsed, nil
}
