package tokens

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
)

const ampleSize = 1 << 20

var (
	testID      = IDTokenRequest{Audience: "https://example.com/"}
	otherScopes = NewScopes(CloudPlatform, "https://www.googleapis.com/auth/devstorage.read_only")
)

// newUsedEngine returns an engine that has issued two access tokens with different scopes
// and an ID token.
func (g *offlineGoogle) newUsedEngine(t *testing.T, o Options) *Engine {
	t.Helper()
	e := newEngine(t, o)
	for _, scopes := range []Scopes{otherScopes, DefaultScopes()} {
		_, err := e.AccessToken(t.Context(), linked, scopes)
		check(t, err)
	}
	_, err := e.IDToken(t.Context(), linked, testID)
	check(t, err)
	return e
}

// restoredEngine returns an engine with the tokens of another.
func restoredEngine(t *testing.T, old *Engine, o Options, want int) *Engine {
	t.Helper()
	next := newEngine(t, o)
	restored, err := next.Restore(old.Snapshot(ampleSize))
	if err != nil || restored != want {
		t.Fatalf("%d tokens restored (%v), want %d", restored, err, want)
	}
	return next
}

// startFollow makes an engine follow a node until the test ends.
func startFollow(t *testing.T, e *Engine, node *fakeNode) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { e.Follow(ctx, node); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	synctest.Wait()
}

func TestSnapshot_RestoredTokensAreServedAndRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		first := g.newUsedEngine(t, o)
		first.Close()
		down := fakegoogle.Fault{Status: 503}
		for method := range g.Counters() {
			g.SetFault(method, down)
		}
		time.Sleep(5 * time.Minute)
		second := restoredEngine(t, first, o, 5) // with the federated token and the KSA token
		before := g.Counters()
		for _, scopes := range []Scopes{otherScopes, DefaultScopes()} {
			token, err := second.AccessToken(t.Context(), linked, scopes)
			check(t, err)
			if !token.cached || !slices.Equal(g.wantGrant(t, token, "serviceAccount:"+testGSA, testCaller).Scopes, scopes) {
				t.Errorf("cached %t, or not the scopes %v", token.cached, scopes)
			}
		}
		old, err := second.IDToken(t.Context(), linked, testID)
		check(t, err)
		if old.Type != "JWT" {
			t.Errorf("the ID token is of type %s", old.Type)
		}
		g.wantCalls(t, before, nil)

		// At a quarter of its lifetime, less the jitter, each is renewed for the same request.
		g.ClearFaults()
		time.Sleep(3*time.Minute + 59*time.Second)
		g.wantCalls(t, before, nil)
		time.Sleep(6*time.Minute + 2*time.Second)
		synctest.Wait()
		g.wantCalls(t, before, map[string]int{fakegoogle.MethodSTSToken: 1, fakegoogle.MethodGenerateAccessToken: 2, fakegoogle.MethodGenerateIDToken: 1})
		for _, scopes := range []Scopes{otherScopes, DefaultScopes()} {
			token, err := second.AccessToken(t.Context(), linked, scopes)
			check(t, err)
			grant := g.wantGrant(t, token, "serviceAccount:"+testGSA, testCaller)
			if left := time.Until(token.Expiry); left < 50*time.Minute || !slices.Equal(grant.Scopes, scopes) {
				t.Errorf("%s left, scopes %v", left, grant.Scopes)
			}
		}
		renewed, err := second.IDToken(t.Context(), linked, testID)
		check(t, err)
		claims := string(must(base64.RawURLEncoding.DecodeString(strings.Split(renewed.Value(), ".")[1])))
		if renewed.Value() == old.Value() || !strings.Contains(claims, testID.Audience) {
			t.Errorf("the ID token is not renewed, or not for %s: %s", testID.Audience, claims)
		}
	})
}

func TestSnapshot_OverdueRenewalsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		first := g.newUsedEngine(t, o)
		first.Close()
		time.Sleep(40 * time.Minute)
		before := g.Counters()
		second := restoredEngine(t, first, o, 5)
		token, err := second.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		if left := time.Until(token.Expiry); left != 20*time.Minute {
			t.Errorf("%s left", left)
		}
		synctest.Wait()
		g.wantCalls(t, before, nil)
		// The source of a GSA token is another cache, which renews its own when it is used.
		time.Sleep(overdueSpread + 2*time.Minute)
		synctest.Wait()
		token, err = second.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		if left := time.Until(token.Expiry); left < 50*time.Minute {
			t.Errorf("%s left", left)
		}
	})
}

func TestSnapshot_ExpiredTokensKeepLastUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		start := time.Now()
		first := g.newUsedEngine(t, o)
		snapshot := first.Snapshot(ampleSize)
		first.Close()
		time.Sleep(time.Hour)
		second := newEngine(t, o)
		if restored, err := second.Restore(snapshot); err != nil || restored != 1 {
			t.Errorf("%d tokens restored (%v), want the KSA token, whose lifetime is two hours", restored, err)
		}
		if got := second.LastUse(linked, DefaultScopes()); !got.Equal(start) {
			t.Errorf("last use %s, want %s", got, start)
		}
		if a, b := second.LastUse(relinked, DefaultScopes()), second.LastUse(linked, Scopes{userinfoEmail}); !a.IsZero() || !b.IsZero() {
			t.Errorf("last use of tokens that were never requested: %s and %s", a, b)
		}
		before := g.Counters()
		_, err := second.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		g.wantCalls(t, before, map[string]int{fakegoogle.MethodSTSToken: 1, fakegoogle.MethodGenerateAccessToken: 1})
	})
}

func TestSnapshot_TokensOfGonePodsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		first := g.newUsedEngine(t, o)
		first.Close()
		second := restoredEngine(t, first, o, 5)
		node := &fakeNode{notReady: errors.New("the API server is down")}
		startFollow(t, second, node)
		time.Sleep(3 * time.Minute)
		node.set() // the pods come before their KSAs
		if left := second.tokens.size() + second.credentialStores[0].size() + second.ksaTokens.size(); left != 5 {
			t.Fatalf("%d tokens are left before the pods are known", left)
		}
		node.mu.Lock()
		node.notReady = nil
		node.mu.Unlock()
		node.set()
		if left := second.ksaTokens.size(); left != 0 {
			t.Errorf("%d KSA tokens of a pod that is gone", left)
		}
		time.Sleep(absenceGrace + absenceGrace/2 + time.Second)
		if left := second.tokens.size() + second.credentialStores[0].size(); left != 0 {
			t.Errorf("%d tokens of a KSA without pods", left)
		}
	})
}

func TestSnapshot_TokensOfOldAnnotationsAreDropped(t *testing.T) {
	for name, now := range map[string]identity.Workload{
		"another GSA":       relinked,
		"no GSA":            unlinked,
		"another delegates": with(linked, func(w *identity.Workload) { w.Delegates = otherGSA }),
		"another KSA":       with(linked, func(w *identity.Workload) { w.KSA.UID = "recreated" }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				g.AddServiceAccount(otherGSA)
				g.Bind(otherGSA, workloadIdentityUser, testCaller)
				o := g.federation()
				first := g.newUsedEngine(t, o)
				first.Close()
				second := restoredEngine(t, first, o, 5)
				before := g.Counters()
				if token, err := second.AccessToken(t.Context(), now, DefaultScopes()); err == nil && token.cached {
					t.Error("an old token was served before the pods were known")
				}
				if calls := g.Counters(); calls[fakegoogle.MethodSTSToken]+calls[fakegoogle.MethodGenerateAccessToken] == before[fakegoogle.MethodSTSToken]+before[fakegoogle.MethodGenerateAccessToken] {
					t.Error("Google got no request")
				}
				if name == "another KSA" {
					return // its tokens are dropped with its pods
				}
				node := &fakeNode{}
				node.set(now)
				startFollow(t, second, node)
				if second.tokens.has(linkedKey) || second.tokens.has(idKey(linked, testID)) {
					t.Error("an old token is still cached")
				}
			})
		})
	}
}

func TestSnapshot_TokensOfRunningPodsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		first := g.newUsedEngine(t, o)
		first.Close()
		second := restoredEngine(t, first, o, 5)
		node := &fakeNode{}
		node.set(linked)
		startFollow(t, second, node)
		time.Sleep(2 * absenceGrace)
		if left := second.tokens.size() + second.credentialStores[0].size() + second.ksaTokens.size(); left != 5 {
			t.Errorf("%d tokens are left", left)
		}
	})
}

func TestSnapshot_OmitsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		first := g.newUsedEngine(t, o)
		g.SetFault(fakegoogle.MethodGenerateAccessToken, fakegoogle.Fault{Status: 403})
		_, err := first.AccessToken(t.Context(), linked, Scopes{CloudPlatform})
		wantError(t, err, Denied)
		g.ClearFaults()
		first.Close()
		second := restoredEngine(t, first, o, 5)
		if second.LastUse(linked, Scopes{CloudPlatform}).IsZero() {
			t.Error("its last use is not known")
		}
		_, err = second.AccessToken(t.Context(), linked, Scopes{CloudPlatform})
		check(t, err)
	})
}

func TestSnapshot_KeepsAuditFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		o := g.federation()
		first := g.newUsedEngine(t, o)
		line := func(e *Engine) auditLine {
			token, err := e.IDToken(t.Context(), linked, testID)
			check(t, err)
			return record{workload: linked, id: true, audience: testID.Audience, token: token}.line()
		}
		second := restoredEngine(t, first, o, 5)
		if want := line(first); want.Principal == "" || want.GSAUniqueID == "" {
			t.Errorf("the test is void, as these fields are empty: %+v", want)
		}
		if diff := cmp.Diff(line(first), line(second)); diff != "" {
			t.Errorf("-before +after:\n%s", diff)
		}
	})
}

func TestSnapshot_SizeLimitKeepsLastUsedPerKSA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e := newEngine(t, g.federation())
		quiet := with(linked, func(w *identity.Workload) { w.KSA.UID = "quiet" })
		put := func(w identity.Workload, audience string) {
			e.tokens.mu.Lock()
			e.tokens.record(idKey(w, IDTokenRequest{Audience: audience}), w, time.Now(), NewToken(secret, time.Now().Add(time.Hour)), nil)
			e.tokens.mu.Unlock()
			time.Sleep(time.Second)
		}
		put(quiet, "first")
		put(quiet, "second")
		for i := range 100 {
			put(linked, fmt.Sprint(i))
		}
		one := len(e.Snapshot(ampleSize)) / 102
		snapshot := e.Snapshot(4 * one)
		if len(snapshot) > 4*one {
			t.Errorf("%d bytes, want %d", len(snapshot), 4*one)
		}
		next := newEngine(t, g.federation())
		if _, err := next.Restore(snapshot); err != nil {
			t.Fatal(err)
		}
		for _, want := range []key{idKey(linked, IDTokenRequest{Audience: "99"}), idKey(quiet, IDTokenRequest{Audience: "second"}), idKey(linked, IDTokenRequest{Audience: "98"})} {
			if !next.tokens.has(want) {
				t.Errorf("%s is not in the snapshot", want)
			}
		}
		if e.Snapshot(0) != nil {
			t.Error("a snapshot of 0 bytes is not empty")
		}
		// The order of use is kept: it decides about eviction and renewal.
		whole := newEngine(t, g.federation())
		if n, err := whole.Restore(e.Snapshot(ampleSize)); err != nil || n != 102 {
			t.Fatal(n, err)
		}
		if diff := cmp.Diff(e.tokens.entries.byKSA[linked.KSA.UID].Keys(), whole.tokens.entries.byKSA[linked.KSA.UID].Keys(), cmp.AllowUnexported(key{})); diff != "" {
			t.Errorf("order of use (-before +after):\n%s", diff)
		}
	})
}

func TestSnapshot_MalformedIsRefusedWithoutPrinting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		good := string(g.newUsedEngine(t, g.federation()).Snapshot(ampleSize))
		for _, bad := range []string{
			secret, `"` + secret + `"`, `{"Value": "` + secret + `", "Lifetime": "x"}`, `{"Value": 7}`, "[]", "{}", "\x00",
			strings.Replace(good, `"Cache":"tokens"`, `"Cache":"`+secret+`"`, 1), strings.Replace(good, `"Key":"`, `"Key":"`+secret, 1), good[:len(good)-2], good + secret,
		} {
			e := newEngine(t, g.federation())
			if n, err := e.Restore([]byte(bad)); err == nil || n != 0 || e.tokens.size() != 0 {
				t.Errorf("%d restored, %v", n, err)
			} else {
				wantNoSecret(t, "the error", err.Error(), secret)
			}
		}
		if n, err := newEngine(t, g.federation()).Restore(nil); n != 0 || err != nil {
			t.Errorf("an empty snapshot: %d, %v", n, err)
		}
	})
}

func TestSnapshot_ChangedSignalsNewAndDroppedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e := newEngine(t, g.federation())
		for _, step := range []struct {
			name    string
			do      func()
			changes bool
		}{
			{"the first request", func() { _, _ = e.AccessToken(t.Context(), linked, DefaultScopes()) }, true},
			{"the second request", func() { _, _ = e.AccessToken(t.Context(), linked, DefaultScopes()) }, false},
			{"a renewal", func() { time.Sleep(16 * time.Minute) }, true},
			{"a refusal", func() { _, _ = e.IDToken(t.Context(), unlinked, testID) }, false},
			{"Forget", func() { e.Forget(linked.KSA.UID) }, true},
			{"Forget without tokens", func() { e.Forget(linked.KSA.UID) }, false},
		} {
			changed := e.Changed()
			step.do()
			synctest.Wait()
			got := false
			select {
			case <-changed:
				got = true
			default:
			}
			if got != step.changes {
				t.Errorf("%s is a change: %t", step.name, got)
			}
		}
	})
}
