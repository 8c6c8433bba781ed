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

func linkedIn(namespace string) identity.Workload {
	return with(linked, func(w *identity.Workload) { w.KSA.Namespace = namespace })
}

func TestLimits_RestrictGSAsByNamespace(t *testing.T) {
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
		for _, test := range []struct {
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
			w := with(linkedIn(test.namespace), func(w *identity.Workload) { w.GSA = test.gsa })
			reasons, err := rules.allow(w)
			switch {
			case test.allowed && (err != nil || !strings.Contains(strings.Join(reasons, ""), "allow namespace "+test.namespace+" to use ")):
				t.Errorf("%s, %s: %v, allowed by %q", test.namespace, test.gsa, err, reasons)
			case !test.allowed:
				wantError(t, err, Denied, test.namespace+"/cart may not use "+test.gsa+": "+rules.origin+" limit namespace "+test.namespace+" to ", "add it to the namespace's gsas")
			}
		}
	}
}

// The limits hold in federation mode, too, and for both kinds of tokens.
func TestLimits_ApplyBeforeGoogleIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		o.Limits = must(NewLimits([]string{"shop="}, nil, 0))
		e := newEngine(t, o)
		for _, kind := range tokenKinds() {
			_, err := kind.request(t.Context(), e, linked)
			wantError(t, err, Denied, "limit namespace shop to no Google service account")
		}
		g.wantCalls(t, nil, nil)
		_, err := e.AccessToken(t.Context(), unlinked, Scopes{CloudPlatform}) // the KSA's own token
		check(t, err)
	})
}

func TestLimits_NarrowScopes(t *testing.T) {
	const sql = "https://www.googleapis.com/auth/sqlservice.admin"
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		o.Rules = must(ParseRules([]byte("limits:\n- namespace: shop\n  scopes: [" + readOnly + ", " + sql + "]\n")))
		e := newEngine(t, o)
		for _, test := range []struct{ requested, want Scopes }{
			{DefaultScopes(), NewScopes(readOnly, sql)},
			{Scopes{CloudPlatform}, NewScopes(readOnly, sql)},
			{Scopes{readOnly}, Scopes{readOnly}},
			{NewScopes(readOnly, userinfoEmail), Scopes{readOnly}},
		} {
			token, err := e.AccessToken(t.Context(), linked, test.requested)
			check(t, err)
			if got := g.wantGrant(t, token, "serviceAccount:"+testGSA, testCaller).Scopes; !slices.Equal(got, test.want) {
				t.Errorf("requested %q, got %q", test.requested, got)
			}
		}
		for _, requested := range []Scopes{{"https://www.googleapis.com/auth/bigquery"}, NewScopes(readOnly, "https://www.googleapis.com/auth/bigquery"), {userinfoEmail}} {
			_, err := e.AccessToken(t.Context(), linked, requested)
			wantError(t, err, Denied, "may not have the scope", "limit namespace shop to "+readOnly+", "+sql,
				"Request one of these scopes, or none; ask the cluster's operator to allow more.")
		}
		token, err := e.AccessToken(t.Context(), with(linked, func(w *identity.Workload) { w.KSA.Namespace, w.KSA.UID, w.GSA = "other", "o", "" }), DefaultScopes())
		check(t, err)
		if got, _ := g.Inspect(token.Value()); !slices.Contains(got.Scopes, CloudPlatform) {
			t.Errorf("another namespace: %q", got.Scopes)
		}
	})
}

// Of the flags and the file, the stricter limit holds.
func TestLimits_CapTokenLifetime(t *testing.T) {
	for _, test := range []struct {
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
			o.Limits = must(NewLimits(nil, nil, test.flag))
			if test.file != "" {
				o.Rules = must(ParseRules([]byte("limits:\n- namespace: shop\n  maxLife: " + test.file)))
			}
			e := newEngine(t, o)
			for _, w := range []identity.Workload{linked, unlinked} {
				token, err := e.AccessToken(t.Context(), w, Scopes{CloudPlatform})
				check(t, err)
				grant, _ := g.Inspect(token.Value())
				if got := time.Until(grant.Expiry); got > test.want+time.Second || got < test.want-time.Second {
					t.Errorf("flag %s, file %q, GSA %q: %s", test.flag, test.file, w.GSA, got)
				}
			}
		})
	}
}

func TestLimits_InvalidFlagsAreReported(t *testing.T) {
	for flag, text := range map[string]string{
		"shop":            "is not NAMESPACE=PATTERN",
		"Shop=" + testGSA: `"Shop" is neither the name of a namespace nor *`,
		"shop=cart":       `gsas[0]: "cart" is not the e-mail address`,
	} {
		if _, err := NewLimits([]string{flag}, nil, 0); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if _, err := NewLimits([]string{"a=", "a="}, nil, 0); err == nil || !strings.Contains(err.Error(), "listed twice") {
		t.Errorf("twice: %v", err)
	}
	if _, err := NewLimits(nil, nil, time.Minute); err == nil || !strings.Contains(err.Error(), "maxLife") {
		t.Errorf("a minute: %v", err)
	}
	if _, err := NewLimits(nil, []string{"a b"}, 0); err == nil || !strings.Contains(err.Error(), "is not one scope") {
		t.Errorf("two scopes in one: %v", err)
	}
}

// New rules hold at once, also for cached tokens. Tokens that they do not affect stay.
func TestRules_ChangeAppliesToCachedTokens(t *testing.T) {
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

		set("limits:\n- namespace: shop\n  scopes: [" + readOnly + "]\n") // and no refusal is cached
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
