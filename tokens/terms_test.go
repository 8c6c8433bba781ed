package tokens

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/identity"
)

func TestEachFieldOfATokenAndOfItsKeyIsInTheForm(t *testing.T) {
	for _, of := range []any{handed{}, key{}, origin{}, identity.Workload{}, identity.Pod{}, identity.ServiceAccount{}} {
		for field := range reflect.TypeOf(of).Fields() {
			if !strings.Contains(form(), field.Name+":") {
				t.Errorf("%T.%s is not", of, field.Name)
			}
		}
	}
}

func TestWhateverDecidesTheTokensIsInTheTerms(t *testing.T) {
	rules := func(text string) *Rules { return must(ParseRules([]byte(text))) }
	listing := rules("allow: [{ksa: shop/cart, gsas: [" + testGSA + "]}]")
	g := &offlineGoogle{Running: nowhere}
	terms := map[string]string{}
	for name, o := range map[string]Options{
		"federation":       g.federation(),
		"another provider": g.federation(func(f *Federation) { f.Provider += "2" }),
		"another STS":      g.federation(func(f *Federation) { f.STSEndpoint += "2" }),
		"another IAM":      with(g.federation(), func(o *Options) { o.IAMEndpoint += "2" }),
		"another pool":     with(g.federation(), func(o *Options) { o.WorkloadPool += "2" }),
		"other IAM creds":  with(g.federation(), func(o *Options) { o.IAMCredentialsEndpoint += "2" }),
		"limits":           with(g.federation(), func(o *Options) { o.Limits = must(NewLimits([]string{"ci="}, nil, 0)) }),
		"other limits":     with(g.federation(), func(o *Options) { o.Limits = must(NewLimits(nil, nil, time.Hour)) }),
		"scopes":           with(g.federation(), func(o *Options) { o.Limits = must(NewLimits(nil, []string{"a"}, 0)) }),
		"rules":            with(g.federation(), func(o *Options) { o.Rules = listing }),
		"other rules":      with(g.federation(), func(o *Options) { o.Rules = rules("allow: []") }),
		"rules of limits":  with(g.federation(), func(o *Options) { o.Rules = rules("limits: [{namespace: ci, maxLife: 15m}]") }),
		"impersonation":    g.impersonation(operator, nil),
		"no policy":        g.impersonation(operator, AllowAll{}),
		"rules decide":     with(g.impersonation(operator, nil), func(o *Options) { o.RulesDecide, o.Rules = true, listing }),
		"delegates":        with(g.impersonation(operator, nil), func(o *Options) { o.Delegates = []string{otherGSA} }),
		"members' names":   with(g.impersonation(operator, nil), func(o *Options) { o.Provider = testProvider }),
	} {
		of := string(newEngine(t, o).Terms())
		if other, taken := terms[of]; taken {
			t.Errorf("%s: the terms are those of %s", name, other)
		}
		if again := string(newEngine(t, o).Terms()); again != of {
			t.Errorf("%s: the terms are %s and %s", name, of, again)
		}
		terms[of] = name
	}
	e := newEngine(t, g.federation())
	before, changed := string(e.Terms()), e.Changed()
	e.SetRules(listing)
	if terms[string(e.Terms())] != "rules" || string(e.Terms()) == before {
		t.Error("the terms have not changed with the rules")
	}
	select {
	case <-changed:
	default:
		t.Error("nobody is told")
	}
}
