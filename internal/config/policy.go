package config

import (
	"cmp"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// The values of --impersonation-policy.
const (
	PolicyIAM  = "iam"
	PolicyFile = "file"
	PolicyOff  = "off"
)

func impersonationPolicies() []string { return []string{PolicyIAM, PolicyFile, PolicyOff} }

// maxTokenLifeForm is the form of --max-token-life in the Helm chart: zero, or between
// tokens.MinTokenLife and tokens.MaxTokenLife.
var maxTokenLifeForm = regexp.MustCompile(`^(0s?|[1-5][0-9]m([0-5]?[0-9]s)?|60m(0s)?|1h(0m)?(0s)?|([6-9][0-9]{2}|[12][0-9]{3}|3[0-5][0-9]{2}|3600)s)$`)

// Policy limits the GSAs that a KSA can use, and the scopes and lifetimes of tokens.
type Policy struct {
	Impersonation string        // iam, file or off; empty without impersonation
	File          string        // path of a policy file; empty: no rules
	Delegates     string        // e-mail addresses, separated by commas
	NamespaceGSAs string        // NAMESPACE=PATTERN,PATTERN separated by spaces
	MaxScopes     string        // separated by commas; empty: all scopes
	MaxTokenLife  time.Duration // 0: as long as Google issues them
}

func (p *Policy) flags(f *pflag.FlagSet) {
	choiceVar(f, &p.Impersonation, "impersonation-policy", "", impersonationPolicies(), "with impersonation, who decides which KSA can use which Google service account: iam (the account's own IAM policy, as on GKE), file (the --policy-file) or off (all pods can use all accounts) (default: iam)")
	f.StringVar(&p.File, "policy-file", "", "`file` of rules: which KSA can use which Google service account, and limits on the tokens of a namespace; changes are read while the daemon runs, see docs/policy.md")
	f.StringVar(&p.Delegates, "delegates", "", "e-mail `addresses` of the Google service accounts through which the source credential reaches all others, separated by commas")
	f.StringVar(&p.NamespaceGSAs, "namespace-gsas", "", "`list` of the Google service accounts that the pods of a namespace can use: NAMESPACE=PATTERN,PATTERN, separated by spaces; the namespace * is all namespaces that are not listed (default: all accounts)")
	f.StringVar(&p.MaxScopes, "max-scopes", "", "`scopes` that access tokens can have, separated by commas (default: all scopes)")
	f.DurationVar(&p.MaxTokenLife, "max-token-life", 0, "longest lifetime (TTL) of access tokens, from 10m to 1h (default: as Google issues them)")
	setPattern(f, "max-token-life", maxTokenLifeForm)
}

func (p *Policy) complete(credentials string) error {
	if credentials != Impersonation && p.Impersonation != "" {
		return FlagErrorf("impersonation-policy", "use --credentials=impersonation or leave it out", "is not used with --credentials=%s, where Google's IAM decides", credentials)
	}
	p.Impersonation = cmp.Or(p.Impersonation, PolicyIAM)
	if err := checkChoice("impersonation-policy", p.Impersonation, impersonationPolicies()); err != nil {
		return err
	}
	if p.Impersonation == PolicyFile && p.File == "" {
		return FlagErrorf("policy-file", "give the path of a file of rules", "is needed with --impersonation-policy=file")
	}
	if credentials != Impersonation && p.Delegates != "" {
		return FlagErrorf("delegates", "use the annotation iam.gke.io/gcp-service-account-delegates", "is not used with --credentials=%s", credentials)
	}
	for _, delegate := range p.DelegateChain() {
		if !identity.ValidGSA(delegate) {
			return FlagErrorf("delegates", "give e-mail addresses, separated by commas", "%q is not the e-mail address of a Google service account", delegate)
		}
	}
	if p.MaxTokenLife != 0 && (p.MaxTokenLife < tokens.MinTokenLife || p.MaxTokenLife > tokens.MaxTokenLife) {
		return FlagErrorf("max-token-life", "leave it out for the lifetime that Google gives, an hour", "%s is not between %s and %s", p.MaxTokenLife, tokens.MinTokenLife, tokens.MaxTokenLife)
	}
	_, err := p.Limits()
	return err
}

// DelegateChain returns the e-mail addresses of --delegates.
func (p *Policy) DelegateChain() []string { return splitCommas(p.Delegates) }

// Limits returns the limits that the flags set.
func (p *Policy) Limits() (*tokens.Rules, error) {
	limits, err := tokens.NewLimits(strings.Fields(p.NamespaceGSAs), splitCommas(p.MaxScopes), p.MaxTokenLife)
	var scope *tokens.ScopeError
	if errors.As(err, &scope) {
		return nil, FlagErrorf("max-scopes", "give scopes separated by commas, see docs/policy.md", "%v", err)
	}
	if err != nil {
		return nil, FlagErrorf("namespace-gsas", "give NAMESPACE=PATTERN,PATTERN separated by spaces, see docs/policy.md", "%v", err)
	}
	return limits, nil
}

// ReadRules returns the rules of the policy file, nil if there is none.
func (p *Policy) ReadRules() (*tokens.Rules, error) {
	if p.File == "" {
		return nil, nil
	}
	document, err := readFile("policy-file", p.File)
	if err != nil {
		return nil, err
	}
	rules, err := tokens.ParseRules(document)
	if err != nil {
		return nil, FlagErrorf("policy-file", "see docs/policy.md", "%s: %v", p.File, err)
	}
	return rules, nil
}
