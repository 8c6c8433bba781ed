package identity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/internal/document"
)

// Static resolves callers from a list, for machines without a cluster. The most specific
// row that contains a caller's address applies. It is constant.
type Static struct {
	rows []staticRow
}

type staticRow struct {
	prefix   netip.Prefix
	workload Workload
}

// staticFile is the YAML form of the list.
type staticFile struct {
	Identities []struct {
		Address        string `json:"address"`        // an IP address or a CIDR range; default: all callers
		Namespace      string `json:"namespace"`      // default: default
		ServiceAccount string `json:"serviceAccount"` // default: default
		GSA            string `json:"gsa"`
		QuotaProject   string `json:"quotaProject"`
		PrincipalEmail bool   `json:"principalAsEmail"`
	} `json:"identities"`
}

// ParseStatic reads a list of identities in YAML. Its errors name an unknown field, an
// invalid value, or an address that is listed twice.
func ParseStatic(content []byte) (*Static, error) {
	var file staticFile
	if err := document.Unmarshal(content, &file); err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	if len(file.Identities) == 0 {
		return nil, fmt.Errorf(`identities: the list is empty: add at least "identities: [{serviceAccount: NAME, gsa: EMAIL}]"`)
	}
	s := &Static{}
	for i, id := range file.Identities {
		prefixes, err := parseAddress(id.Address)
		if err != nil {
			return nil, fmt.Errorf("identities[%d].address: %w", i, err)
		}
		w := Workload{
			KSA:            ServiceAccount{Namespace: cmp.Or(id.Namespace, "default"), Name: cmp.Or(id.ServiceAccount, "default")},
			GSA:            id.GSA,
			QuotaProject:   id.QuotaProject,
			PrincipalEmail: id.PrincipalEmail,
		}
		if w.GSA != "" && !ValidGSA(w.GSA) {
			return nil, fmt.Errorf("identities[%d].gsa: %q is not the e-mail address of a Google service account", i, w.GSA)
		}
		if w.QuotaProject != "" && !ValidQuotaProject(w.QuotaProject) {
			return nil, fmt.Errorf("identities[%d].quotaProject: %q is not the ID of a Google project", i, w.QuotaProject)
		}
		w.KSA.UID = derivedUID("serviceaccount", w.KSA.Namespace, w.KSA.Name)
		// Rows that give one KSA different properties are different pods.
		w.Pod = Pod{Namespace: w.KSA.Namespace, Name: w.KSA.Name, UID: derivedUID("pod", w.KSA.Namespace, w.KSA.Name, w.GSA, w.QuotaProject, strconv.FormatBool(w.PrincipalEmail))}
		for _, prefix := range prefixes {
			if slices.ContainsFunc(s.rows, func(r staticRow) bool { return r.prefix == prefix }) {
				return nil, fmt.Errorf("identities[%d].address: %s is listed twice; use one identity for each address", i, prefix)
			}
			s.rows = append(s.rows, staticRow{prefix, w})
		}
	}
	slices.SortStableFunc(s.rows, func(a, b staticRow) int { return b.prefix.Bits() - a.prefix.Bits() })
	return s, nil
}

// SingleIdentity returns a list that gives every caller the same identity.
func SingleIdentity(namespace, serviceAccount, gsa string) (*Static, error) {
	content, err := yaml.Marshal(map[string]any{"identities": []map[string]string{{"namespace": namespace, "serviceAccount": serviceAccount, "gsa": gsa}}})
	if err != nil {
		return nil, err
	}
	return ParseStatic(content)
}

func parseAddress(s string) ([]netip.Prefix, error) {
	if s == "" {
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, nil
	}
	prefix, err := netip.ParsePrefix(s)
	if ip, notIP := netip.ParseAddr(s); notIP == nil {
		prefix, err = netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%q is neither an IP address nor a CIDR range", s)
	}
	// In the canonical form that connections have.
	if ip := prefix.Addr(); ip.Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(ip.Unmap(), prefix.Bits()-96)
	}
	return []netip.Prefix{prefix.Masked()}, nil
}

// derivedUID returns a UID that depends on the parts alone, so restarts do not change it.
func derivedUID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "/")))
	h := hex.EncodeToString(sum[:16])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

// Pod returns the pod that is listed for the address of conn. For an address that is not
// listed it returns an error of the reason [NotListed].
func (s *Static) Pod(_ context.Context, conn Connection) (Pod, error) {
	ip := conn.Remote.Addr().Unmap()
	for _, row := range s.rows {
		if row.prefix.Contains(ip) {
			return row.workload.Pod, nil
		}
	}
	return Pod{}, &Error{Reason: NotListed, Message: fmt.Sprintf("no identity is listed for the address %s: add it to the identities file", ip)}
}

// Workload returns the listed workload of a pod. For another pod it returns an error of the
// reason [Gone].
func (s *Static) Workload(_ context.Context, pod Pod) (Workload, error) {
	for _, row := range s.rows {
		if row.workload.Pod == pod {
			return row.workload, nil
		}
	}
	return Workload{}, errorf(Gone, "pod %s/%s is no longer listed", pod.Namespace, pod.Name)
}

// Changed returns nil: the list does not change.
func (s *Static) Changed() <-chan struct{} { return nil }

// Workloads returns all workloads of the list, each once.
func (s *Static) Workloads() []Workload {
	var all []Workload
	for _, row := range s.rows {
		if !slices.Contains(all, row.workload) {
			all = append(all, row.workload)
		}
	}
	return all
}
