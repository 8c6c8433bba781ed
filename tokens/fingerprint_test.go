package tokens

import (
	"testing"
	"time"
)

func TestFingerprint_CoversEverySetting(t *testing.T) {
	rules := func(text string) *Rules { return must(ParseRules([]byte(text))) }
	listing := rules("allow: [{ksa: shop/cart, gsas: [" + testGSA + "]}]")
	g := &offlineGoogle{Running: offlineServer}
	names := map[string]string{} // by fingerprint
	for name, o := range map[string]Options{
		"federation":       g.federation(),
		"another provider": g.federation(func(f *Federation) { f.Audience += "2" }),
		"another audience": g.federation(func(f *Federation) { f.SubjectAudience += "2" }),
		"another STS":      g.federation(func(f *Federation) { f.STSEndpoint += "2" }),
		"another IAM":      with(g.federation(), func(o *Options) { o.IAMEndpoint += "2" }),
		"another pool":     with(g.federation(), func(o *Options) { o.Names.GKEPool += "2" }),
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
		"members' names":   with(g.impersonation(operator, nil), func(o *Options) { o.Names = testNames }),
	} {
		fingerprint := string(newEngine(t, o).Fingerprint())
		if other, taken := names[fingerprint]; taken {
			t.Errorf("%s: same fingerprint as %s", name, other)
		}
		if second := string(newEngine(t, o).Fingerprint()); second != fingerprint {
			t.Errorf("%s: fingerprints %s and %s", name, fingerprint, second)
		}
		names[fingerprint] = name
	}
	e := newEngine(t, g.federation())
	before, changed := string(e.Fingerprint()), e.Changed()
	e.SetRules(listing)
	if names[string(e.Fingerprint())] != "rules" || string(e.Fingerprint()) == before {
		t.Error("the fingerprint has not changed with the rules")
	}
	select {
	case <-changed:
	default:
		t.Error("the change is not signalled")
	}
}
