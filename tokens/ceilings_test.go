package tokens

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
)

const readOnly = "https://www.googleapis.com/auth/devstorage.read_only"

func in(namespace string) identity.Workload {
	return with(linked, func(w *identity.Workload) { w.KSA.Namespace = namespace })
}

func TestNamespaceMayUseTheGSAsOfItsListOnly(t *testing.T) {
	flags := must(NewLimits([]string{"shop=*@shop-project.iam.gserviceaccount.com,b@q-project.iam.gserviceaccount.com", "none=", "*=ops@shop-project.iam.gserviceaccount.com"}, nil, 0))
	file := must(ParseRules([]byte(`
limits:
- namespace: shop
  gsas: ["*@shop-project.iam.gserviceaccount.com", b@q-project.iam.gserviceaccount.com]
- namespace: none
  gsas: []
- namespace: "*"
  gsas: [ops@shop-project.iam.gserviceaccount.com]
`)))
	for _, rules := range []*Rules{flags, file} {
		for _, of := range []struct {
			namespace, gsa string
			allowed        bool
		}{
			{"shop", testGSA, true},
			{"shop", "b@q-project.iam.gserviceaccount.com", true},
			{"shop", "a@q-project.iam.gserviceaccount.com", false},
			{"shop", "a@shop-project.iam.gserviceaccount.com.evil.com", false},
			{"shop", "a@shop-projectxiam.gserviceaccount.com", false},
			{"shop", "x@evil@shop-project.iam.gserviceaccount.com", false},
			{"shop2", testGSA, false},
			{"shop2", "ops@shop-project.iam.gserviceaccount.com", true},
			{"none", "ops@shop-project.iam.gserviceaccount.com", false},
		} {
			w := with(in(of.namespace), func(w *identity.Workload) { w.GSA = of.gsa })
			why, err := rules.allow(w)
			switch {
			case of.allowed && (err != nil || !strings.Contains(strings.Join(why, ""), "let namespace "+of.namespace+" use ")):
				t.Errorf("%s, %s: %v, allowed by %q", of.namespace, of.gsa, err, why)
			case !of.allowed:
				wantError(t, err, Denied, of.namespace+"/cart may not use "+of.gsa+": "+rules.from+" let namespace "+of.namespace+" use ", "add it to the gsas of the namespace")
			}
		}
	}
}

// The ceilings hold also where Google's IAM decides, and for both kinds of tokens.
func TestGoogleIsNotAskedForWhatTheNamespaceMayNotUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		o.Limits = must(NewLimits([]string{"shop="}, nil, 0))
		e := newEngine(t, o)
		for _, of := range endpoints() {
			_, err := of.ask(t.Context(), e, linked)
			wantError(t, err, Denied, "use no Google service account only")
		}
		g.wantCalls(t, nil, nil)
		_, err := e.AccessToken(t.Context(), unlinked, Scopes{CloudPlatform}) // its own
		check(t, err)
	})
}

func TestScopesAreNarrowedToTheNamespacesCeiling(t *testing.T) {
	const sql = "https://www.googleapis.com/auth/sqlservice.admin"
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		o.Rules = must(ParseRules([]byte("limits:\n- namespace: shop\n  scopes: [" + readOnly + ", " + sql + "]\n")))
		e := newEngine(t, o)
		for _, of := range []struct{ asked, want Scopes }{
			{DefaultScopes(), NewScopes(readOnly, sql)},
			{Scopes{CloudPlatform}, NewScopes(readOnly, sql)},
			{Scopes{readOnly}, Scopes{readOnly}},
			{NewScopes(readOnly, userinfoEmail), Scopes{readOnly}},
		} {
			token, err := e.AccessToken(t.Context(), linked, of.asked)
			check(t, err)
			if got := g.wantGrant(t, token, "serviceAccount:"+testGSA, testCaller).Scopes; !slices.Equal(got, of.want) {
				t.Errorf("asked for %q, got %q", of.asked, got)
			}
		}
		for _, asked := range []Scopes{{"https://www.googleapis.com/auth/bigquery"}, NewScopes(readOnly, "https://www.googleapis.com/auth/bigquery"), {userinfoEmail}} {
			_, err := e.AccessToken(t.Context(), linked, asked)
			wantError(t, err, Denied, "may not have the scope", "leave namespace shop only "+readOnly+", "+sql)
		}
		token, err := e.AccessToken(t.Context(), with(linked, func(w *identity.Workload) { w.KSA.Namespace, w.KSA.UID, w.GSA = "other", "o", "" }), DefaultScopes())
		check(t, err)
		if got, _ := g.Inspect(token.Value()); !slices.Contains(got.Scopes, CloudPlatform) {
			t.Errorf("another namespace: %q", got.Scopes)
		}
	})
}

// Of flags and file the one that leaves less holds.
func TestTokensLiveForTheCeilingAtMost(t *testing.T) {
	for _, of := range []struct {
		flag time.Duration
		file string
		want time.Duration
	}{
		{0, "", time.Hour},
		{20 * time.Minute, "", 20 * time.Minute},
		{0, "15m", 15 * time.Minute},
		{20 * time.Minute, "15m", 15 * time.Minute},
		{12 * time.Minute, "15m", 12 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := googleInBubble(t, 0)
			o := g.federation()
			o.Limits = must(NewLimits(nil, nil, of.flag))
			if of.file != "" {
				o.Rules = must(ParseRules([]byte("limits:\n- namespace: shop\n  maxLife: " + of.file)))
			}
			e := newEngine(t, o)
			for _, w := range []identity.Workload{linked, unlinked} {
				token, err := e.AccessToken(t.Context(), w, Scopes{CloudPlatform})
				check(t, err)
				grant, _ := g.Inspect(token.Value())
				if got := time.Until(grant.Expiry); got > of.want+time.Second || got < of.want-time.Second {
					t.Errorf("flag %s, file %q, GSA %q: %s", of.flag, of.file, w.GSA, got)
				}
			}
		})
	}
}

func TestMistakesInTheFlagsAreNamed(t *testing.T) {
	for flag, text := range map[string]string{
		"shop":            "is not NAMESPACE=PATTERN",
		"Shop=" + testGSA: `"Shop" is neither the name of a namespace nor *`,
		"shop=cart":       `gsas[0]: "cart" is not the e-mail address`,
	} {
		if _, err := NewLimits([]string{flag}, nil, 0); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if _, err := NewLimits([]string{"a=", "a="}, nil, 0); err == nil || !strings.Contains(err.Error(), "a second time") {
		t.Errorf("twice: %v", err)
	}
	if _, err := NewLimits(nil, nil, time.Minute); err == nil || !strings.Contains(err.Error(), "maxLife") {
		t.Errorf("a minute: %v", err)
	}
	if _, err := NewLimits(nil, []string{"a b"}, 0); err == nil || !strings.Contains(err.Error(), "is not one scope") {
		t.Errorf("two scopes in one: %v", err)
	}
}

// New rules hold at once, also for what is cached; what they say nothing new of stays.
func TestNewRulesHoldForCachedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e := newEngine(t, g.federation())
		_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		set := func(document string) { e.SetRules(must(ParseRules([]byte(document)))) }

		set("limits:\n- namespace: another\n  gsas: []\n")
		_, err = e.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		g.wantCalls(t, nil, map[string]int{fakegoogle.MethodSTSToken: 1, fakegoogle.MethodGenerateAccessToken: 1})

		set("limits:\n- namespace: shop\n  gsas: []\n")
		_, err = e.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Denied, "policy file")

		set("limits:\n- namespace: shop\n  scopes: [" + readOnly + "]\n") // and no refusal is remembered
		token, err := e.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		if grant, _ := g.Inspect(token.Value()); !slices.Equal(grant.Scopes, []string{readOnly}) {
			t.Errorf("scopes %q", grant.Scopes)
		}

		set("limits:\n- namespace: shop\n  maxLife: 10m\n")
		token, err = e.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		if left := time.Until(token.Expiry); left > 10*time.Minute {
			t.Errorf("%s left", left)
		}
	})
}
