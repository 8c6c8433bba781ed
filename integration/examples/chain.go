package examples

import (
	"errors"
	"fmt"
	"strings"

	"gke-metadata-emulator/integration/cluster/deployment"
)

// Chain is how a call came about, as a stand-in recorded it: the fields of its
// record.
type Chain struct {
	KSA       string   // NAMESPACE/NAME, of the Kubernetes token at the beginning
	Through   []string // principals whose tokens were requested on the way
	Principal string   // caller
}

// String is the chain for a reader: KSA ns/name → principal:… → serviceAccount:….
func (c Chain) String() string {
	var links []string
	if c.KSA != "" {
		links = append(links, "KSA "+c.KSA)
	}
	links = append(append(links, c.Through...), c.Principal)
	return strings.Join(links, " → ")
}

// Federated returns an error unless the chain is a KSA whose federated principal became a
// GSA. An empty GSA means a KSA without annotation, which calls as the federated
// principal itself.
func (c Chain) Federated(namespace, ksa, gsa string) error {
	federated := deployment.Principal(namespace, ksa)
	want := Chain{KSA: namespace + "/" + ksa, Through: []string{federated}, Principal: "serviceAccount:" + gsa}
	if gsa == "" {
		want.Through, want.Principal = nil, federated
	}
	return c.equal(want)
}

// Impersonated returns an error unless the chain is the operator's credential that became a
// GSA. Google sees no KSA in this mode.
func (c Chain) Impersonated(gsa string) error {
	return c.equal(Chain{Through: []string{"user:" + Operator}, Principal: "serviceAccount:" + gsa})
}

func (c Chain) equal(want Chain) error {
	if c.String() != want.String() {
		return fmt.Errorf("the chain is %s, want %s", c, want)
	}
	return nil
}

// Upload is an object that was written, and its writer.
type Upload struct {
	Object string
	Chain  Chain
}

// Uploads are the objects that were written to a bucket, the latest 1000 requests
// back.
func (s *Fixture) Uploads(bucket string) []Upload {
	var found []Upload
	for _, r := range s.Storage.Records() {
		if r.Bucket == bucket && r.Object != "" && (r.Method == "POST" || r.Method == "PUT") && r.Status == 200 {
			found = append(found, Upload{Object: r.Object, Chain: Chain{KSA: r.KSA, Through: r.Through, Principal: r.Principal}})
		}
	}
	return found
}

// TokenOf returns the chain of a token that a workload printed.
func (s *Fixture) TokenOf(token string) (Chain, error) {
	grant, known := s.Google.Inspect(token)
	if !known {
		return Chain{}, errors.New("the token is unknown to Google")
	}
	return Chain{KSA: grant.KSA, Through: grant.DelegationChain, Principal: grant.Principal}, nil
}
