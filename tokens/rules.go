package tokens

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/identity"
)

// The bounds of a ceiling on the life of tokens: the API server gives no KSA token for
// less, and nobody asks Google for more.
const (
	MinTokenLife = 10 * time.Minute
	MaxTokenLife = time.Hour
)

// Rules are the operator's, whatever Google's IAM says: which KSA may use which GSA,
// and what the tokens of a namespace may be at most. A nil one says nothing.
type Rules struct {
	allowed []rule // nil: no list; empty: nobody may use any
	limits  []ceiling
	from    string // for texts
}

type rule struct {
	KSA  string   `json:"ksa"`  // NAMESPACE/NAME, or NAMESPACE/* for all of a namespace
	GSAs []string `json:"gsas"` // e-mail addresses
}

// ceiling is what the tokens of a namespace may be at most. What it does not name is
// as the one of all namespaces says.
type ceiling struct {
	Namespace string   `json:"namespace"` // or * for all
	GSAs      []string `json:"gsas"`      // patterns: * is any text without @
	Scopes    []string `json:"scopes"`
	MaxLife   string   `json:"maxLife"`

	gsas []*regexp.Regexp
	life time.Duration
}

// ksaPattern refuses, above all, a * that would never match.
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
func ParseRules(document []byte) (*Rules, error) {
	var file struct {
		Allow  []rule    `json:"allow"`
		Limits []ceiling `json:"limits"`
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
	for i := range file.Limits {
		if err := file.Limits[i].complete(); err != nil {
			return nil, fmt.Errorf("policy: limits[%d].%w", i, err)
		}
		if slices.ContainsFunc(file.Limits[:i], func(c ceiling) bool { return c.Namespace == file.Limits[i].Namespace }) {
			return nil, fmt.Errorf("policy: limits[%d].namespace: %s is here a second time", i, file.Limits[i].Namespace)
		}
	}
	return &Rules{allowed: file.Allow, limits: file.Limits, from: "the metadata server's policy file"}, nil
}

// NewLimits makes rules of flags: the GSAs of namespaces, each as NAMESPACE=PATTERN,…;
// and for all namespaces the scopes, all where there are none, and the life of tokens,
// as Google gives them where it is 0.
func NewLimits(namespaceGSAs, scopes []string, life time.Duration) (*Rules, error) {
	r := &Rules{from: "the metadata server's flags"}
	all := ceiling{Namespace: "*", Scopes: scopes}
	if life != 0 {
		all.MaxLife = life.String()
	}
	for _, flag := range namespaceGSAs {
		namespace, patterns, found := strings.Cut(flag, "=")
		c := ceiling{Namespace: namespace, GSAs: strings.FieldsFunc(patterns, func(r rune) bool { return r == ',' })}
		if !found {
			return nil, fmt.Errorf("%q is not NAMESPACE=PATTERN", flag)
		}
		if c.GSAs == nil {
			c.GSAs = []string{} // none
		}
		if err := c.complete(); err != nil {
			return nil, err
		}
		if namespace == "*" {
			all.GSAs = c.GSAs
			continue
		}
		if slices.ContainsFunc(r.limits, func(other ceiling) bool { return other.Namespace == namespace }) {
			return nil, fmt.Errorf("namespace: %s is here a second time", namespace)
		}
		r.limits = append(r.limits, c)
	}
	if err := all.complete(); err != nil {
		return nil, err
	}
	r.limits = append(r.limits, all)
	return r, nil
}

func (c *ceiling) complete() error {
	if !namespacePattern.MatchString(c.Namespace) {
		return fmt.Errorf("namespace: %q is neither the name of a namespace nor *", c.Namespace)
	}
	for i, pattern := range c.GSAs {
		if !identity.ValidGSA(strings.ReplaceAll(pattern, "*", "x")) {
			return fmt.Errorf("gsas[%d]: %q is not the e-mail address of a Google service account, with * for any text without @", i, pattern)
		}
		c.gsas = append(c.gsas, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[^@]*`)+"$"))
	}
	for i, scope := range c.Scopes {
		if scope == "" || strings.ContainsAny(scope, " ,\t\n") {
			return fmt.Errorf("scopes[%d]: %q is not one scope", i, scope)
		}
	}
	if c.Scopes != nil {
		if len(c.Scopes) == 0 {
			return fmt.Errorf("scopes: the list is empty, so that there would be no token: leave it out for all")
		}
		c.Scopes = NewScopes(c.Scopes...)
	}
	if c.MaxLife == "" {
		return nil
	}
	var err error
	if c.life, err = time.ParseDuration(c.MaxLife); err != nil || c.life < MinTokenLife || c.life > MaxTokenLife {
		return fmt.Errorf("maxLife: %q is not between %s and %s", c.MaxLife, MinTokenLife, MaxTokenLife)
	}
	return nil
}

// of is what holds for a namespace: its own ceiling, completed by that of all.
func (r *Rules) of(namespace string) ceiling {
	c := ceiling{Namespace: namespace}
	if r == nil {
		return c
	}
	for _, name := range []string{namespace, "*"} {
		i := slices.IndexFunc(r.limits, func(c ceiling) bool { return c.Namespace == name })
		if i < 0 {
			continue
		}
		if limit := r.limits[i]; c.GSAs == nil {
			c.GSAs, c.gsas = limit.GSAs, limit.gsas
		}
		if c.Scopes == nil {
			c.Scopes = r.limits[i].Scopes
		}
		c.life = cmp.Or(c.life, r.limits[i].life)
	}
	return c
}

// allow says why the KSA of w may use w.GSA, as far as the rules know.
func (r *Rules) allow(w identity.Workload) (why []string, err error) {
	if r == nil {
		return nil, nil
	}
	if c := r.of(w.KSA.Namespace); c.GSAs != nil {
		i := slices.IndexFunc(c.gsas, func(pattern *regexp.Regexp) bool { return pattern.MatchString(w.GSA) })
		if i < 0 {
			return nil, &Error{Kind: Denied, forget: true, Message: fmt.Sprintf(
				"Service account %s/%s may not use %s: %s let namespace %s use %s only.\nIts operator can add it to the gsas of the namespace.",
				w.KSA.Namespace, w.KSA.Name, w.GSA, r.from, w.KSA.Namespace, cmp.Or(strings.Join(c.GSAs, ", "), "no Google service account"))}
		}
		why = append(why, fmt.Sprintf("%s let namespace %s use %s", r.from, w.KSA.Namespace, c.GSAs[i]))
	}
	if r.allowed == nil {
		return why, nil
	}
	for i, rule := range r.allowed {
		exact := rule.KSA == w.KSA.Namespace+"/"+w.KSA.Name
		if (exact || rule.KSA == w.KSA.Namespace+"/*") && slices.Contains(rule.GSAs, w.GSA) {
			return append(why, fmt.Sprintf("allow[%d] of %s lets %s use it", i, r.from, rule.KSA)), nil
		}
	}
	return nil, unlisted(w)
}

func unlisted(w identity.Workload) *Error {
	return &Error{Kind: Denied, forget: true, Message: fmt.Sprintf(
		"Service account %s/%s may not use %s: no rule of the metadata server's policy file allows it.\n"+
			"Its operator can add:\nallow:\n- ksa: %s/%s\n  gsas: [%s]", w.KSA.Namespace, w.KSA.Name, w.GSA, w.KSA.Namespace, w.KSA.Name, w.GSA)}
}

// narrow says which of the scopes are granted. Libraries ask for cloud-platform and
// userinfo.email by themselves, and get what there is instead; who asks for another
// scope means it, and is refused.
func (r *Rules) narrow(w identity.Workload, scopes Scopes) (granted Scopes, why string, err error) {
	ceiling := r.of(w.KSA.Namespace).Scopes
	if ceiling == nil {
		return scopes, "", nil
	}
	for _, scope := range scopes {
		switch {
		case slices.Contains(ceiling, scope):
			granted = append(granted, scope)
		case scope == CloudPlatform:
			granted = append(granted, ceiling...)
		case scope != userinfoEmail:
			return nil, "", refusedScope(w, scope, r.from, ceiling)
		}
	}
	if len(granted) == 0 {
		return nil, "", refusedScope(w, strings.Join(scopes, ","), r.from, ceiling)
	}
	if granted = NewScopes(granted...); slices.Equal(granted, scopes) {
		return scopes, "", nil
	}
	return granted, fmt.Sprintf("%s leave namespace %s the scopes %s", r.from, w.KSA.Namespace, strings.Join(granted, " ")), nil
}

func refusedScope(w identity.Workload, scope, from string, ceiling []string) *Error {
	return &Error{Kind: Denied, forget: true, Message: fmt.Sprintf(
		"Service account %s/%s may not have the scope %s: %s leave namespace %s only %s.\nAsk for one of these, for none, or its operator for more.",
		w.KSA.Namespace, w.KSA.Name, scope, from, w.KSA.Namespace, strings.Join(ceiling, ", "))}
}

// life is how long a token of w may live at most; 0 is as Google gives it.
func (r *Rules) life(w identity.Workload) time.Duration { return r.of(w.KSA.Namespace).life }

// stance is all that the rules say of a workload, so that one can see whether other
// rules say another thing.
func (r *Rules) stance(w identity.Workload) string {
	_, err := r.allow(w)
	return fmt.Sprint(w.GSA == "" || err == nil, r.of(w.KSA.Namespace).Scopes, r.life(w), r != nil && r.allowed != nil)
}
