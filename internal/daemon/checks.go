package daemon

import (
	"cmp"
	"net/url"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/dmi"
	"gke-metadata-emulator/internal/facts"
	"gke-metadata-emulator/tokens"
)

const (
	// UsualHandoverFile is where the chart has the daemon leave its tokens.
	UsualHandoverFile = "/run/gke-metadata-emulator/handover"
	// KindProductName is the file of the nodes of kind.
	KindProductName = dmi.KindFile
	// OriginalProductName is the default of --dmi-original.
	OriginalProductName = dmi.OriginalFile
)

// checkStartupTaint returns a [*FlagError] for a taint that no node can have.
func (s *Serve) checkStartupTaint() error {
	if s.StartupTaint == "" {
		return nil
	}
	if problems := validation.IsQualifiedName(s.StartupTaint); len(problems) > 0 {
		return FlagErrorf("startup-taint", "give the key alone, like gke-metadata-emulator/not-ready", "%q is not the key of a taint: %s", s.StartupTaint, strings.Join(problems, ", "))
	}
	return nil
}

func (s *Serve) checkProductName() error {
	if s.DMIProductName == "" {
		return nil
	}
	s.DMIOriginal = cmp.Or(s.DMIOriginal, OriginalProductName)
	return checkDMI(s.DMIProductName, s.DMIOriginal)
}

func checkDMI(file, original string) error {
	if !filepath.IsAbs(file) {
		return FlagErrorf("dmi-product-name", "give a whole path; on a node of kind it is "+KindProductName, "%q is not one", file)
	}
	if !filepath.IsAbs(original) || original == file {
		return FlagErrorf("dmi-original", "give the whole path of a file of its own", "%q is not one", original)
	}
	return nil
}

func (s *Serve) checkTracing() error {
	if s.OTLPEndpoint == "" {
		return nil
	}
	if u, err := url.Parse(s.OTLPEndpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return FlagErrorf("otlp-endpoint", "give the base URL of a collector, like http://collector:4318", "%q is no http or https URL", s.OTLPEndpoint)
	}
	return nil
}

// checkHandover returns a [*FlagError] if only some of the flags it needs are set.
func (s *Serve) checkHandover() error {
	switch {
	case s.HandoverFile == "" && s.HandoverKeyFile == "":
		return nil
	case s.HandoverFile == "":
		return FlagErrorf("handover-file", "give one on a tmpfs, like "+UsualHandoverFile, "is needed with --handover-key-file")
	case s.HandoverKeyFile == "":
		return FlagErrorf("handover-key-file", "make one by 'head -c 32 /dev/urandom'", "is needed with --handover-file")
	case s.Credentials == Fake:
		return FlagErrorf("handover-file", "leave it out", "contradicts --credentials=fake, whose Google forgets its tokens with the daemon")
	}
	return wholePath("handover-file", s.HandoverFile)
}

func wholePath(flag, path string) error {
	if !filepath.IsAbs(path) {
		return FlagErrorf(flag, "give a whole path, like "+UsualHandoverFile, "%q is not one", path)
	}
	return nil
}

// readLimits reads what the flags allow at most.
func (s *Serve) readLimits() (err error) {
	for _, delegate := range s.delegates() {
		if !identity.ValidGSA(delegate) {
			return FlagErrorf("delegates", "give e-mail addresses with commas between", "%q is not the e-mail address of a Google service account", delegate)
		}
	}
	if s.MaxTokenLife != 0 && (s.MaxTokenLife < tokens.MinTokenLife || s.MaxTokenLife > tokens.MaxTokenLife) {
		return FlagErrorf("max-token-life", "leave it out for what Google gives, an hour", "%s is not between %s and %s", s.MaxTokenLife, tokens.MinTokenLife, tokens.MaxTokenLife)
	}
	if s.limits, err = tokens.NewLimits(nil, commas(s.MaxScopes), s.MaxTokenLife); err != nil {
		return FlagErrorf("max-scopes", "give scopes with commas between, see docs/policy.md", "%v", err)
	}
	if s.limits, err = tokens.NewLimits(strings.Fields(s.NamespaceGSAs), commas(s.MaxScopes), s.MaxTokenLife); err != nil {
		return FlagErrorf("namespace-gsas", "give NAMESPACE=PATTERN,… with spaces between, see docs/policy.md", "%v", err)
	}
	return nil
}

// readRules reads what the file allows.
func (s *Serve) readRules() error {
	if s.PolicyFile == "" {
		return nil
	}
	document, err := readFile("policy-file", s.PolicyFile)
	if err != nil {
		return err
	}
	if s.rules, err = tokens.ParseRules(document); err != nil {
		return FlagErrorf("policy-file", "see docs/policy.md", "%s: %v", s.PolicyFile, err)
	}
	return nil
}

func (s *Serve) delegates() []string { return commas(s.Delegates) }

// commas are the parts of a list, nil where there are none.
func commas(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func (p *Project) readAttributes() error {
	if p.AttributesFile == "" {
		return nil
	}
	document, err := readFile("attributes-file", p.AttributesFile)
	if err != nil {
		return err
	}
	if p.attributes, err = facts.ParseAttributes(document); err != nil {
		return FlagErrorf("attributes-file", "see docs/attributes.md", "%s: %v", p.AttributesFile, err)
	}
	return nil
}

// factsOptions are the facts that follow from the settings.
func (p Project) factsOptions(program *program, node string) facts.Options {
	return facts.Options{
		ProjectID: p.ID, DottedProjectID: p.dotted(), NumericProjectID: p.Number, WorkloadPool: p.WorkloadPool, UniverseDomain: p.UniverseDomain,
		ClusterName: p.ClusterName, ClusterLocation: p.ClusterLocation, Node: node, Zone: p.Zone,
		AttributesFile: p.AttributesFile, Attributes: p.attributes, Metrics: program.registry, Log: program.log,
	}
}

// dotted is the project's ID in the form that names use: example.com:proj, a project of
// a domain, is proj.example.com there.
func (p Project) dotted() string {
	if domain, id, scoped := strings.Cut(p.ID, ":"); scoped {
		return id + "." + domain
	}
	return p.ID
}
