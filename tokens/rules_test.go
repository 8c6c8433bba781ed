package tokens

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
)

const ruleFile = `
allow:
- ksa: ci/builder
  gsas: [builder@p.iam.gserviceaccount.com, pusher@p.iam.gserviceaccount.com]
- ksa: dev/*
  gsas: [dev@p.iam.gserviceaccount.com]
`

func TestRules_AllowOnlyListedPairs(t *testing.T) {
	policy := must(ParseRules([]byte(ruleFile)))
	for _, test := range []struct {
		namespace, name, gsa string
		allowed              bool
	}{
		{"ci", "builder", "builder@p.iam.gserviceaccount.com", true},
		{"ci", "builder", "pusher@p.iam.gserviceaccount.com", true},
		{"dev", "anybody", "dev@p.iam.gserviceaccount.com", true},
		{"dev", "default", "dev@p.iam.gserviceaccount.com", true},
		{"ci", "builder", "dev@p.iam.gserviceaccount.com", false},
		{"ci", "builder-2", "builder@p.iam.gserviceaccount.com", false},
		{"ci", "build", "builder@p.iam.gserviceaccount.com", false},
		{"ci-2", "builder", "builder@p.iam.gserviceaccount.com", false},
		{"prod", "builder", "builder@p.iam.gserviceaccount.com", false},
		{"dev", "anybody", "builder@p.iam.gserviceaccount.com", false},
		{"dev2", "anybody", "dev@p.iam.gserviceaccount.com", false},
		{"dev", "anybody", "xdev@p.iam.gserviceaccount.com", false},
	} {
		w := identity.Workload{KSA: identity.ServiceAccount{Namespace: test.namespace, Name: test.name}, GSA: test.gsa}
		why, err := policy.allow(w)
		if test.allowed {
			if err != nil {
				t.Errorf("%s/%s: %v", test.namespace, test.name, err)
			} else if len(why) != 1 || !strings.HasPrefix(why[0], "allow[") {
				t.Errorf("%s/%s: allowed by %q", test.namespace, test.name, why)
			}
			continue
		}
		wantError(t, err, Denied, test.namespace+"/"+test.name+" may not use "+test.gsa,
			"allow:\n- ksa: "+test.namespace+"/"+test.name+"\n  gsas: ["+test.gsa+"]")
	}
}

// The text of a refusal is the rule that is missing.
func TestRules_SuggestedRuleAllows(t *testing.T) {
	_, err := must(ParseRules([]byte("allow: []"))).allow(linked)
	_, rule, _ := strings.Cut(wantError(t, err, Denied).Error(), "can add:\n")
	if _, err := must(ParseRules([]byte(rule))).allow(linked); err != nil {
		t.Error(err)
	}
}

func TestRules_EmptyFileDeniesEverything(t *testing.T) {
	for _, document := range []string{"", "# nothing yet\n", "allow: []", "{}"} {
		var file atomic.Pointer[Rules]
		file.Store(must(ParseRules([]byte(document))))
		s := guarded{next: &upstream{}, rules: &file, policy: filePolicy{&file}, metrics: newMetrics(prometheus.NewRegistry())}
		for _, kind := range tokenKinds() {
			_, err := kind.request(t.Context(), s, linked)
			wantError(t, err, Denied, "no rule in the metadata server's policy file allows it")
		}
	}
}

func TestRules_InvalidFileNamesPlace(t *testing.T) {
	const good = "gsas: [a@p.iam.gserviceaccount.com]"
	for _, test := range []struct{ document, want string }{
		{"allow:\n- ksa: '*/x'\n  " + good, `allow[0].ksa: "*/x" is neither NAMESPACE/NAME nor NAMESPACE/*`},
		{"allow:\n- ksa: '*'\n  " + good, `allow[0].ksa: "*"`},
		{"allow:\n- ksa: '*/*'\n  " + good, `allow[0].ksa: "*/*"`},
		{"allow:\n- ksa: ns/app-*\n  " + good, `allow[0].ksa: "ns/app-*"`},
		{"allow:\n- ksa: n*/app\n  " + good, `allow[0].ksa: "n*/app"`},
		{"allow:\n- ksa: ns\n  " + good, `allow[0].ksa: "ns"`},
		{"allow:\n- ksa: ns/\n  " + good, `allow[0].ksa: "ns/"`},
		{"allow:\n- ksa: /x\n  " + good, `allow[0].ksa: "/x"`},
		{"allow:\n- ksa: a/b/c\n  " + good, `allow[0].ksa: "a/b/c"`},
		{"allow:\n- " + good, `allow[0].ksa: ""`},
		{"allow:\n- ksa: a/b\n  " + good + "\n- ksa: c\n  " + good, `allow[1].ksa: "c"`},
		{"allow:\n- ksa: a/b", "allow[0].gsas: the list is empty"},
		{"allow:\n- ksa: a/b\n  gsas: [a@p.iam.gserviceaccount.com, someone]", `allow[0].gsas[1]: "someone" is not the e-mail address`},
		{"allow:\n- ksa: a/b\n  gsa: x", `unknown field "gsa"`},
		{"limits: [{namespace: a, quotaProjects: [billing, Billing]}]", `limits[0].quotaProjects[1]: "Billing" is not the ID of a Google project`},
		{"deny: []", `unknown field "deny"`},
		{"allow: []\nallow: []", `"allow" already set`},
		{"allow: {", "policy: "},
		{"allow: yes please", "policy: "},
	} {
		if _, err := ParseRules([]byte(test.document)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %s", test.document, err, test.want)
		}
	}
}

// No file allows a namespace that it does not name, or an address that is not a GSA's.
func FuzzParseRules(f *testing.F) {
	f.Add(ruleFile, "ci", "builder", "builder@p.iam.gserviceaccount.com")
	f.Add("allow:\n- ksa: a/b/c\n  gsas: [x]", "a", "b", "x")
	f.Add("allow:\n- {ksa: '*/*', gsas: ['*@*']}", "*", "*", "*@*")
	f.Fuzz(func(t *testing.T, document, namespace, name, gsa string) {
		policy, err := ParseRules([]byte(document))
		if err != nil {
			return
		}
		w := identity.Workload{KSA: identity.ServiceAccount{Namespace: namespace, Name: name}, GSA: gsa}
		_, err = policy.allow(w)
		if err == nil && policy.allowed != nil && (!strings.Contains(document, namespace) || !identity.ValidGSA(gsa)) {
			t.Errorf("%s/%s may use %q by %q", namespace, name, gsa, document)
		}
	})
}
