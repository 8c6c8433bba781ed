package tokens

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
)

// rotatedCluster is a cluster whose signing key can be replaced.
type rotatedCluster struct{ fakeCluster }

func (r *rotatedCluster) rotate(t *testing.T, g *offlineGoogle, uploaded bool) {
	t.Helper()
	issuer := must(NewLocalIssuer(testIssuer, time.Now))
	if uploaded {
		g.issuer = issuer
		check(t, g.AddProvider(g.provider()))
	}
	r.SubjectTokens = issuer
}

func TestRotation_RefusedKSATokenIsReplacedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		cluster := &rotatedCluster{fakeCluster{SubjectTokens: g.issuer}}
		e := newEngine(t, g.federation(func(f *Federation) { f.Subjects = cluster }))
		_, err := e.AccessToken(t.Context(), unlinked, Scopes{CloudPlatform})
		check(t, err)
		time.Sleep(2 * time.Minute)
		cluster.rotate(t, g, true)
		before := g.Counters()
		_, err = e.AccessToken(t.Context(), unlinked, Scopes{readOnly}) // another federated token
		check(t, err)
		g.wantCalls(t, before, map[string]int{fakegoogle.MethodSTSToken: 2})
		if got := cluster.calls.Load(); got != 2 {
			t.Errorf("%d KSA tokens, want 2", got)
		}
	})
}

// Google does not know the new key. The API server must not get a request for each retry.
func TestRotation_APIServerIsCalledOnceAMinuteIfAllAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		cluster := &rotatedCluster{fakeCluster{SubjectTokens: g.issuer}}
		cluster.rotate(t, g, false)
		e := newEngine(t, g.federation(func(f *Federation) { f.Subjects = cluster }))
		for start := time.Now(); time.Since(start) < 10*time.Minute; time.Sleep(time.Second) {
			_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
			wantError(t, err, Misconfigured, "invalid_grant")
		}
		if got := cluster.calls.Load(); got > 11 || got < 9 {
			t.Errorf("%d KSA tokens in 10 minutes", got)
		}
		// One retry for each: every 5 s, and one more a minute.
		if got := g.Counters()[fakegoogle.MethodSTSToken]; got > 120+11 {
			t.Errorf("%d exchanges in 10 minutes", got)
		}
	})
}

// The API server's refusal is permanent, so no caller waits for another attempt.
func TestRotation_PermanentAPIServerRefusalIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		calls := 0
		e := newEngine(t, g.federation(func(f *Federation) {
			f.Subjects = subjectsFunc(func() error { calls++; return &Error{Kind: Denied, Message: "no"} })
		}))
		start := time.Now()
		_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Denied, "no")
		if took := time.Since(start); took > 0 || calls != 1 {
			t.Errorf("%d calls in %s", calls, took)
		}
	})
}

type subjectsFunc func() error

func (f subjectsFunc) SubjectToken(context.Context, identity.Workload, string, time.Duration) (Token, error) {
	return Token{}, f()
}
