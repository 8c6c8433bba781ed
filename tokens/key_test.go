package tokens

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/identity"
)

// Requests that differ get different tokens. They are all made at once, to test both the
// cache and the flights.
func TestKey_DistinctRequestsNeverShareTokens(t *testing.T) {
	access := func(change func(*identity.Workload), scopes ...string) func(context.Context, Source) (Token, error) {
		return func(ctx context.Context, s Source) (Token, error) {
			return s.AccessToken(ctx, with(linked, change), NewScopes(scopes...))
		}
	}
	id := func(r IDTokenRequest, change func(*identity.Workload)) func(context.Context, Source) (Token, error) {
		return func(ctx context.Context, s Source) (Token, error) { return s.IDToken(ctx, with(linked, change), r) }
	}
	same := func(*identity.Workload) {}
	otherKSA := func(w *identity.Workload) { w.KSA.UID = "another" }
	otherGSA := func(w *identity.Workload) { w.GSA = "other@p.iam.gserviceaccount.com" }
	noGSA := func(w *identity.Workload) { w.GSA = "" }
	requests := map[string]func(context.Context, Source) (Token, error){
		"access token":                    access(same),
		"access token of another KSA":     access(otherKSA),
		"access token of another GSA":     access(otherGSA),
		"access token without GSA":        access(noGSA),
		"other scope":                     access(same, "a"),
		"two scopes":                      access(same, "a", "b"),
		"one scope with a space":          access(same, "a b"),
		"scope with quotes":               access(same, `a" "b`),
		"scope with a newline":            access(same, "a\nb"),
		"no scopes at all":                func(ctx context.Context, s Source) (Token, error) { return s.AccessToken(ctx, linked, nil) },
		"ID token":                        id(IDTokenRequest{Audience: "a"}, same),
		"ID token of another KSA":         id(IDTokenRequest{Audience: "a"}, otherKSA),
		"ID token of another GSA":         id(IDTokenRequest{Audience: "a"}, otherGSA),
		"ID token without GSA":            id(IDTokenRequest{Audience: "a"}, noGSA),
		"other audience":                  id(IDTokenRequest{Audience: "b"}, same),
		"no audience":                     id(IDTokenRequest{}, same),
		"other format":                    id(IDTokenRequest{Audience: "a", Format: "full"}, same),
		"format that ends an audience":    id(IDTokenRequest{Audience: "a b", Format: "c"}, same),
		"audience that starts a format":   id(IDTokenRequest{Audience: "a", Format: "b c"}, same),
		"licences":                        id(IDTokenRequest{Audience: "a", Licenses: true}, same),
		"licences and format":             id(IDTokenRequest{Audience: "a", Format: "full", Licenses: true}, same),
		"audience that contains a format": id(IDTokenRequest{Audience: "a full"}, same),
		"audience that imitates a key":    id(IDTokenRequest{Audience: `a" "full" true`}, same),
		"audience with escaped quotes":    id(IDTokenRequest{Audience: `a\" \"full\" true`}, same),
		"audience with a newline":         id(IDTokenRequest{Audience: "a\nfull"}, same),
		"audience with a literal \\n":     id(IDTokenRequest{Audience: `a\nfull`}, same),
		"audience with a NUL":             id(IDTokenRequest{Audience: "a\x00full"}, same),
		"audience with broken UTF-8":      id(IDTokenRequest{Audience: "a\xff"}, same),
		"audience with other broken one":  id(IDTokenRequest{Audience: "a\xfe"}, same),
		"audience with U+FFFD":            id(IDTokenRequest{Audience: "a\uFFFD"}, same),
	}
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.upstream.set(func(u *upstream) { u.latency = time.Second })
		var mu sync.Mutex
		owners := map[string]string{} // by token
		var all sync.WaitGroup
		for name, request := range requests {
			all.Go(func() {
				token, err := request(t.Context(), b.cache)
				mu.Lock()
				defer mu.Unlock()
				if other, taken := owners[token.Value()]; err != nil || taken {
					t.Errorf("%s: %v, or the same token as %s", name, err, other)
				}
				owners[token.Value()] = name
			})
		}
		all.Wait()
		for name, request := range requests {
			if token, err := request(t.Context(), b.cache); err != nil || owners[token.Value()] != name {
				t.Errorf("%s: %v, or the token of %s", name, err, owners[token.Value()])
			}
		}
		b.wantCalls(len(requests))
	})
}

func TestScopes_OrderAndDuplicatesDoNotMatter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		for _, scopes := range [][]string{{"a", "b"}, {"b", "a"}, {"b", "a", "b", "a"}, {" a", "", "b "}} {
			token, err := b.cache.AccessToken(t.Context(), linked, NewScopes(scopes...))
			if err != nil || token.Value() != "token-1" {
				t.Errorf("%q: %s, %v", scopes, token.Value(), err)
			}
		}
		b.wantCalls(1)
	})
}

func TestScopes_EmptyMeansDefault(t *testing.T) {
	for _, names := range [][]string{nil, {""}, {" ", "\t"}} {
		if got := NewScopes(names...); !slices.Equal(got, DefaultScopes()) {
			t.Errorf("NewScopes(%q) = %q", names, got)
		}
	}
}

// All pods of a KSA share its token, whatever their other settings.
func TestKey_PodsOfKSAShareToken(t *testing.T) {
	changes := map[string]func(*identity.Workload){
		"pod":             func(w *identity.Workload) { w.Pod = identity.Pod{Namespace: "shop", Name: "cart-2", UID: "another"} },
		"quota project":   func(w *identity.Workload) { w.QuotaProject = "another" },
		"shown principal": func(w *identity.Workload) { w.PrincipalEmail = true },
	}
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.get()
		for _, name := range slices.Sorted(maps.Keys(changes)) {
			if _, err := b.cache.AccessToken(t.Context(), with(linked, changes[name]), DefaultScopes()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		b.wantCalls(1)
	})
}

func TestKey_RoundTrips(t *testing.T) {
	for _, scopes := range []Scopes{nil, {""}, DefaultScopes(), NewScopes("a"), NewScopes("a", "b"), {"a b", "1:c", "\xff", "\n"}} {
		k := accessKey(linked, scopes)
		if got := splitScopes(k.scopes); !slices.Equal(got, scopes) {
			t.Errorf("%q became %q", scopes, got)
		}
		if got, err := parseKey(k.String()); err != nil || got != k {
			t.Errorf("%s became %s (%v)", k, got, err)
		}
	}
	for _, text := range []string{"", "a b", `a" "full" true`, `\"`, "a\nb", `a\n`, "\x00", "\xff", "\uFFFD", "`", "ä %q"} {
		for _, k := range []key{
			idKey(with(linked, func(w *identity.Workload) { w.Delegates = text }), IDTokenRequest{Audience: text, Format: text, Licenses: true}),
			subjectKey(linked, text, subjectLifetime),
		} {
			if got, err := parseKey(k.String()); err != nil || got != k {
				t.Errorf("%s became %s (%v)", k, got, err)
			}
		}
	}
	for _, text := range []string{"", "a", `"" "" "" "" true`, linkedKey.String() + " ", linkedKey.String() + "1", key{scopes: "9:a"}.String(), key{scopes: "-1:a"}.String(), key{scopes: "x"}.String()} {
		if k, err := parseKey(text); err == nil {
			t.Errorf("%q parses as key %s", text, k)
		}
	}
}
