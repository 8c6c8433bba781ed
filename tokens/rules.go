package tokens

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/document"
)

// The bounds of a limit on the lifetime of tokens: the API server issues no KSA token for
// less, and Google no access token for more by default.
const (
	MinTokenLife = 10 * time.Minute
	MaxTokenLife = time.Hour
)

// Rules are the operator's, independent of Google's IAM: which KSA may use which GSA,
// and the limits on the tokens of a namespace. Nil rules allow everything. They are
// immutable.
type Rules struct {
	allowed []rule // nil: no list; empty: no KSA may use any GSA
	limits  []namespaceLimits
	origin  string // where the operator wrote them, for messages; plural
}

type rule struct {
	KSA  string   `json:"ksa"`  // NAMESPACE/NAME, or NAMESPACE/* for all of a namespace
	GSAs []string `json:"gsas"` // e-mail addresses
}

// namespaceLimits are the limits on the tokens of a namespace. Unset fields are inherited
// from the limits of all namespaces.
type namespaceLimits struct {
	Namespace string   `json:"namespace"` // or * for all
	GSAs      []string `json:"gsas"`      // patterns: * is any text without @
	Scopes    []string `json:"scopes"`
	MaxLife   string   `json:"maxLife"`
	// QuotaProjects are those that KSAs may name; nil: see [guarded.withQuotaProject].
	QuotaProjects []string `json:"quotaProjects,omitempty"`

	gsas        []*regexp.Regexp
	maxLifetime time.Duration
}

// ksaPattern rejects, above all, a * that would never match.
var ksaPattern = regexp.MustCompile(`^[^/*]+/([^/*]+|\*)$`)

var namespacePattern = regexp.MustCompile(`^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$`)

// ParseRules reads the policy file, in YAML:
//
//	allow:
//	- ksa: ci/builder
//	  gsas: [builder@my-project.iam.gserviceaccount.com]
//	limits:
//	- namespace: ci
//	  gsas: ["*@my-project.iam.gserviceaccount.com"]
//	  scopes: [https://www.googleapis.com/auth/devstorage.read_only]
//	  maxLife: 15m
//	  quotaProjects: [ci-project]
func ParseRules(content []byte) (*Rules, error) {
	var file struct {
		Allow  []rule            `json:"allow"`
		Limits []namespaceLimits `json:"limits"`
	}
	if err := document.Unmarshal(content, &file); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	for i, rule := range file.Allow {
		if !ksaPattern.MatchString(rule.KSA) {
			return nil, fmt.Errorf("policy: allow[%d].ksa: %q is neither NAMESPACE/NAME nor NAMESPACE/*", i, rule.KSA)
		}
		if len(rule.GSAs) == 0 {
			return nil, fmt.Errorf("policy: allow[%d].gsas: the list is empty, so the rule allows nothing", i)
		}
		for j, gsa := range rule.GSAs {
			if !identity.ValidGSA(gsa) {
				return nil, fmt.Errorf("policy: allow[%d].gsas[%d]: %q is not the e-mail address of a Google service account", i, j, gsa)
			}
		}
	}
	for i := range file.Limits {
		if err := file.Limits[i].complete(); err != nil {
			return nil, fmt.Errorf("policy: limits[%d].%w", i, err)
		}
		if slices.ContainsFunc(file.Limits[:i], func(l namespaceLimits) bool { return l.Namespace == file.Limits[i].Namespace }) {
			return nil, fmt.Errorf("policy: limits[%d].namespace: %s is listed twice", i, file.Limits[i].Namespace)
		}
	}
	return &Rules{allowed: file.Allow, limits: file.Limits, origin: "the rules in the metadata server's policy file"}, nil
}

// ScopeError is an element of a list of scopes that is not one scope.
type ScopeError struct {
	Index int
	Scope string
}

func (e *ScopeError) Error() string {
	return fmt.Sprintf("scopes[%d]: %q is not one scope", e.Index, e.Scope)
}

// NewLimits makes rules from flags: the GSAs of namespaces, each as NAMESPACE=PATTERN,…;
// the scopes of all namespaces (nil: all scopes), and the lifetime of their tokens (0:
// Google's default). An error of the scopes is a [*ScopeError].
func NewLimits(namespaceGSAs, scopes []string, maxLifetime time.Duration) (*Rules, error) {
	r := &Rules{origin: "the metadata server's flags"}
	all := namespaceLimits{Namespace: "*", Scopes: scopes}
	if maxLifetime != 0 {
		all.MaxLife = maxLifetime.String()
	}
	for _, flag := range namespaceGSAs {
		namespace, patterns, found := strings.Cut(flag, "=")
		limits := namespaceLimits{Namespace: namespace, GSAs: strings.FieldsFunc(patterns, func(r rune) bool { return r == ',' })}
		if !found {
			return nil, fmt.Errorf("%q is not NAMESPACE=PATTERN", flag)
		}
		if limits.GSAs == nil {
			limits.GSAs = []string{} // no GSA is allowed
		}
		if err := limits.complete(); err != nil {
			return nil, err
		}
		if namespace == "*" {
			all.GSAs = limits.GSAs
			continue
		}
		if slices.ContainsFunc(r.limits, func(other namespaceLimits) bool { return other.Namespace == namespace }) {
			return nil, fmt.Errorf("namespace: %s is listed twice", namespace)
		}
		r.limits = append(r.limits, limits)
	}
	if err := all.complete(); err != nil {
		return nil, err
	}
	r.limits = append(r.limits, all)
	return r, nil
}

// complete checks the exported fields and sets the others.
func (l *namespaceLimits) complete() error {
	if !namespacePattern.MatchString(l.Namespace) {
		return fmt.Errorf("namespace: %q is neither the name of a namespace nor *", l.Namespace)
	}
	for i, pattern := range l.GSAs {
		if !identity.ValidGSA(strings.ReplaceAll(pattern, "*", "x")) {
			return fmt.Errorf("gsas[%d]: %q is not the e-mail address of a Google service account, with * for any text without @", i, pattern)
		}
		l.gsas = append(l.gsas, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[^@]*`)+"$"))
	}
	for i, scope := range l.Scopes {
		if scope == "" || strings.ContainsAny(scope, " ,\t\n") {
			return &ScopeError{i, scope}
		}
	}
	if l.Scopes != nil {
		if len(l.Scopes) == 0 {
			return fmt.Errorf("scopes: the list is empty, so no token could be issued; omit it to allow all scopes")
		}
		l.Scopes = NewScopes(l.Scopes...)
	}
	for i, project := range l.QuotaProjects {
		if !identity.ValidQuotaProject(project) {
			return fmt.Errorf("quotaProjects[%d]: %q is not the ID of a Google project", i, project)
		}
	}
	if l.MaxLife == "" {
		return nil
	}
	var err error
	if l.maxLifetime, err = time.ParseDuration(l.MaxLife); err != nil || l.maxLifetime < MinTokenLife || l.maxLifetime > MaxTokenLife {
		return fmt.Errorf("maxLife: %q is not between %s and %s", l.MaxLife, MinTokenLife, MaxTokenLife)
	}
	return nil
}

// limitsFor returns the limits of a namespace: its own, completed by those of all.
func (r *Rules) limitsFor(namespace string) namespaceLimits {
	merged := namespaceLimits{Namespace: namespace}
	if r == nil {
		return merged
	}
	for _, name := range []string{namespace, "*"} {
		i := slices.IndexFunc(r.limits, func(l namespaceLimits) bool { return l.Namespace == name })
		if i < 0 {
			continue
		}
		limits := r.limits[i]
		if merged.GSAs == nil {
			merged.GSAs, merged.gsas = limits.GSAs, limits.gsas
		}
		if merged.Scopes == nil {
			merged.Scopes = limits.Scopes
		}
		if merged.QuotaProjects == nil {
			merged.QuotaProjects = limits.QuotaProjects
		}
		merged.maxLifetime = cmp.Or(merged.maxLifetime, limits.maxLifetime)
	}
	return merged
}

// allow returns why the KSA of w may use w.GSA as far as the rules decide it.
func (r *Rules) allow(w identity.Workload) (reasons []string, err error) {
	if r == nil {
		return nil, nil
	}
	if limits := r.limitsFor(w.KSA.Namespace); limits.GSAs != nil {
		i := slices.IndexFunc(limits.gsas, func(pattern *regexp.Regexp) bool { return pattern.MatchString(w.GSA) })
		if i < 0 {
			return nil, &Error{Kind: Denied, uncached: true, Message: fmt.Sprintf(
				"Service account %s/%s may not use %s: %s limit namespace %s to %s.\nThe cluster's operator can add it to the namespace's gsas.",
				w.KSA.Namespace, w.KSA.Name, w.GSA, r.origin, w.KSA.Namespace, cmp.Or(strings.Join(limits.GSAs, ", "), "no Google service account"))}
		}
		reasons = append(reasons, fmt.Sprintf("%s allow namespace %s to use %s", r.origin, w.KSA.Namespace, limits.GSAs[i]))
	}
	if r.allowed == nil {
		return reasons, nil
	}
	for i, rule := range r.allowed {
		exact := rule.KSA == w.KSA.Namespace+"/"+w.KSA.Name
		if (exact || rule.KSA == w.KSA.Namespace+"/*") && slices.Contains(rule.GSAs, w.GSA) {
			return append(reasons, fmt.Sprintf("allow[%d] of %s allows it to %s", i, r.origin, rule.KSA)), nil
		}
	}
	return nil, notListed(w)
}

func notListed(w identity.Workload) *Error {
	return &Error{Kind: Denied, uncached: true, Message: fmt.Sprintf(
		"Service account %s/%s may not use %s: no rule in the metadata server's policy file allows it.\n"+
			"The cluster's operator can add:\nallow:\n- ksa: %s/%s\n  gsas: [%s]", w.KSA.Namespace, w.KSA.Name, w.GSA, w.KSA.Namespace, w.KSA.Name, w.GSA)}
}

// narrow returns the granted scopes. Client libraries request cloud-platform and
// userinfo.email by default; those requests get the allowed scopes instead. A request for
// any other scope is deliberate, and is refused unless that scope is allowed.
func (r *Rules) narrow(w identity.Workload, scopes Scopes) (granted Scopes, reason string, err error) {
	allowed := r.limitsFor(w.KSA.Namespace).Scopes
	if allowed == nil {
		return scopes, "", nil
	}
	for _, scope := range scopes {
		switch {
		case slices.Contains(allowed, scope):
			granted = append(granted, scope)
		case scope == CloudPlatform:
			granted = append(granted, allowed...)
		case scope != userinfoEmail:
			return nil, "", scopeRefused(w, scope, r.origin, allowed)
		}
	}
	if len(granted) == 0 {
		return nil, "", scopeRefused(w, strings.Join(scopes, ","), r.origin, allowed)
	}
	if granted = NewScopes(granted...); slices.Equal(granted, scopes) {
		return scopes, "", nil
	}
	return granted, fmt.Sprintf("%s limit namespace %s to the scopes %s", r.origin, w.KSA.Namespace, strings.Join(granted, " ")), nil
}

func scopeRefused(w identity.Workload, scope, origin string, allowed []string) *Error {
	return &Error{Kind: Denied, uncached: true, Message: fmt.Sprintf(
		"Service account %s/%s may not have the scope %q: %s limit namespace %s to %s.\nRequest one of these scopes, or none; ask the cluster's operator to allow more.",
		w.KSA.Namespace, w.KSA.Name, truncated(scope), origin, w.KSA.Namespace, strings.Join(allowed, ", "))}
}

// maxLifetime is the longest lifetime of a token of w; 0 is Google's default.
func (r *Rules) maxLifetime(w identity.Workload) time.Duration {
	return r.limitsFor(w.KSA.Namespace).maxLifetime
}

// fingerprint identifies everything that the rules decide for a workload: its tokens stay
// valid if other rules have the same fingerprint.
func (r *Rules) fingerprint(w identity.Workload) string {
	_, err := r.allow(w)
	limits := r.limitsFor(w.KSA.Namespace)
	return fmt.Sprint(w.GSA == "" || err == nil, limits.Scopes, limits.maxLifetime, r != nil && r.allowed != nil)
}
