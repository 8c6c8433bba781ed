package tokens

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/identity"
)

// FilePolicy is a list of rules; what no rule allows is denied.
type FilePolicy struct {
	rules []fileRule
}

type fileRule struct {
	KSA  string   `json:"ksa"`  // NAMESPACE/NAME, or NAMESPACE/* for all of a namespace
	GSAs []string `json:"gsas"` // e-mail addresses
}

// ksaPattern refuses, above all, a * that would never match.
var ksaPattern = regexp.MustCompile(`^[^/*]+/([^/*]+|\*)$`)

// ParseFilePolicy reads rules in YAML:
//
//	allow:
//	- ksa: ci/builder
//	  gsas: [builder@my-project.iam.gserviceaccount.com]
func ParseFilePolicy(document []byte) (*FilePolicy, error) {
	var file struct {
		Allow []fileRule `json:"allow"`
	}
	if err := yaml.UnmarshalStrict(document, &file); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	for i, rule := range file.Allow {
		if !ksaPattern.MatchString(rule.KSA) {
			return nil, fmt.Errorf("policy: allow[%d].ksa: %q is neither NAMESPACE/NAME nor NAMESPACE/*", i, rule.KSA)
		}
		if len(rule.GSAs) == 0 {
			return nil, fmt.Errorf("policy: allow[%d].gsas: the list is empty, so that the rule allows nothing", i)
		}
		for j, gsa := range rule.GSAs {
			if !identity.ValidGSA(gsa) {
				return nil, fmt.Errorf("policy: allow[%d].gsas[%d]: %q is not the e-mail address of a Google service account", i, j, gsa)
			}
		}
	}
	return &FilePolicy{rules: file.Allow}, nil
}

// Allow implements [Policy].
func (p *FilePolicy) Allow(_ context.Context, w identity.Workload) error {
	for _, rule := range p.rules {
		exact := rule.KSA == w.KSA.Namespace+"/"+w.KSA.Name
		if (exact || rule.KSA == w.KSA.Namespace+"/*") && slices.Contains(rule.GSAs, w.GSA) {
			return nil
		}
	}
	return &Error{Kind: Denied, Message: fmt.Sprintf(
		"Service account %s/%s may not use %s: no rule of the metadata server's policy file allows it.\n"+
			"Its operator can add:\nallow:\n- ksa: %s/%s\n  gsas: [%s]", w.KSA.Namespace, w.KSA.Name, w.GSA, w.KSA.Namespace, w.KSA.Name, w.GSA)}
}
