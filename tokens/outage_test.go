package tokens

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
)

// gated are KSA tokens of an API server that can be away; hanging makes it silent.
type gated struct {
	SubjectTokens
	away, hanging atomic.Bool
	calls         atomic.Int64
}

func (g *gated) SubjectToken(ctx context.Context, w identity.Workload, audience string, life time.Duration) (Token, error) {
	g.calls.Add(1)
	switch {
	case g.hanging.Load():
		<-ctx.Done()
		return Token{}, unreachable("get a KSA token", "the API server", ctx.Err())
	case g.away.Load():
		return Token{}, unreachable("get a KSA token", "the API server", http.ErrServerClosed)
	}
	return g.SubjectTokens.SubjectToken(ctx, w, audience, life)
}

var allMethods = []string{fakegoogle.MethodSTSToken, fakegoogle.MethodGenerateAccessToken, fakegoogle.MethodGenerateIDToken}

// Whenever it begins: tokens of a workload that asks now and then have three quarters
// of an hour left.
func TestNobodyNoticesThatGoogleIsAwayFor45Minutes(t *testing.T) {
	for _, warm := range []time.Duration{0, 7 * time.Minute, 40 * time.Minute, 3 * time.Hour, 5*time.Hour + 13*time.Minute} {
		t.Run(warm.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				e := newEngine(t, g.federation())
				ask := func() {
					t.Helper()
					for _, of := range endpoints() {
						token, err := of.ask(t.Context(), e, linked)
						check(t, err)
						if time.Until(token.Expiry) <= 0 {
							t.Fatal("an expired token")
						}
					}
				}
				ask()
				for start := time.Now(); time.Since(start) < warm; time.Sleep(min(20*time.Minute, max(warm-time.Since(start), 1))) {
					ask()
				}
				for _, method := range allMethods {
					g.SetFault(method, fakegoogle.Fault{Status: http.StatusServiceUnavailable})
				}
				for start := time.Now(); time.Since(start) < 45*time.Minute-time.Second; time.Sleep(10 * time.Second) {
					ask()
				}
				g.ClearFaults()
				time.Sleep(2 * maxPause)
				token, err := e.AccessToken(t.Context(), linked, DefaultScopes())
				check(t, err)
				if left := time.Until(token.Expiry); left < 45*time.Minute {
					t.Errorf("after the outage: %s left", left)
				}
			})
		})
	}
}

func TestNobodyNoticesThatTheAPIServerIsAwayFor45Minutes(t *testing.T) {
	for name, fail := range map[string]func(*gated) *atomic.Bool{
		"refuses": func(g *gated) *atomic.Bool { return &g.away },
		"hangs":   func(g *gated) *atomic.Bool { return &g.hanging },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				cluster := &gated{SubjectTokens: g.issuer}
				e := newEngine(t, g.federation(func(f *Federation) { f.Subjects = cluster }))
				ask := func(w identity.Workload, of endpoint) Token {
					t.Helper()
					start := time.Now()
					token, err := of.ask(t.Context(), e, w)
					check(t, err)
					if waited := time.Since(start); waited > 0 {
						t.Fatalf("waited for %s", waited)
					}
					return token
				}
				for range 20 {
					ask(linked, endpoints()[0])
					time.Sleep(11 * time.Minute)
				}
				fail(cluster).Store(true)
				for i := range 45 {
					// Also what is asked for the first time now.
					ask(linked, endpoint{ask: func(ctx context.Context, s Source, w identity.Workload) (Token, error) {
						return s.IDToken(ctx, w, IDTokenRequest{Audience: fmt.Sprint(i)})
					}})
					if left := time.Until(ask(linked, endpoints()[0]).Expiry); left < 44*time.Minute {
						t.Errorf("after %d minutes: %s left", i, left)
					}
					time.Sleep(time.Minute - time.Second)
				}
				before := cluster.calls.Load()
				fail(cluster).Store(false)
				time.Sleep(5 * time.Minute)
				if cluster.calls.Load() == before {
					t.Error("the API server is back, and nobody asks it")
				}
				ask(linked, endpoints()[0])
			})
		})
	}
}

func TestRefusalIsAnsweredInOneRoundTripAndRememberedBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		g.Unbind(testGSA, workloadIdentityUser, testCaller)
		g.SetFault(fakegoogle.MethodGenerateAccessToken, fakegoogle.Fault{Latency: 50 * time.Millisecond})
		e := newEngine(t, g.federation())
		ask := func(w identity.Workload) (time.Duration, error) {
			start := time.Now()
			_, err := e.AccessToken(t.Context(), w, DefaultScopes())
			return time.Since(start), err
		}
		took, err := ask(linked)
		wantError(t, err, Denied, "IAM returned 403 Forbidden: Permission 'iam.serviceAccounts.getAccessToken' denied")
		if took != 50*time.Millisecond {
			t.Errorf("answered after %s", took)
		}
		for range 100 {
			took, err = ask(linked)
			wantError(t, err, Denied, "IAM returned 403 Forbidden")
			if took != 0 {
				t.Fatalf("answered after %s, though it is known", took)
			}
		}
		g.Bind(testGSA, workloadIdentityUser, testCaller)
		const other = "other@shop-project.iam.gserviceaccount.com"
		g.AddServiceAccount(other)
		g.Bind(other, workloadIdentityUser, testCaller)
		if _, err := ask(with(linked, func(w *identity.Workload) { w.GSA = other })); err != nil {
			t.Errorf("after another annotation: %v", err)
		}
		time.Sleep(refusalLife)
		if _, err := ask(linked); err != nil {
			t.Errorf("%s after the binding was added: %v", refusalLife, err)
		}
	})
}

func TestBusyGoogleIsAskedAgainWhenItSaidAndWithinTheCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e := newEngine(t, g.federation())
		g.SetFault(fakegoogle.MethodSTSToken, fakegoogle.Fault{Status: http.StatusTooManyRequests, RetryAfter: 3 * time.Second, Times: 1})
		start := time.Now()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if _, err := e.AccessToken(ctx, linked, DefaultScopes()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("answered after %s", took)
		}
		g.wantCalls(t, nil, map[string]int{fakegoogle.MethodSTSToken: 2, fakegoogle.MethodGenerateAccessToken: 1})

		g.SetFault(fakegoogle.MethodGenerateIDToken, fakegoogle.Fault{Status: http.StatusTooManyRequests, RetryAfter: time.Minute})
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := e.IDToken(ctx, linked, IDTokenRequest{Audience: "a"})
		if got := wantError(t, err, Unavailable, "429 Too Many Requests").RetryAfter; got < 55*time.Second || time.Since(start) > 0 {
			t.Errorf("after %s: ask again after %s", time.Since(start), got)
		}
	})
}

func TestConnectionThatHangsIsGivenUpWithinTheCallersDeadline(t *testing.T) {
	for _, method := range allMethods[:2] {
		synctest.Test(t, func(t *testing.T) {
			g := googleInBubble(t, 0)
			e := newEngine(t, g.federation())
			g.SetFault(method, fakegoogle.Fault{Latency: time.Hour, Times: 1})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			start := time.Now()
			if _, err := e.AccessToken(ctx, linked, DefaultScopes()); err != nil || time.Since(start) > hung+time.Second {
				t.Errorf("%s: %v after %s", method, err, time.Since(start))
			}
		})
	}
}

func TestTokensThatLiveForThreeMinutesAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		g.SetTokenLifetime(3 * time.Minute)
		e := newEngine(t, g.federation())
		for range 400 {
			token, err := e.AccessToken(t.Context(), linked, DefaultScopes())
			check(t, err)
			if left := time.Until(token.Expiry); left < time.Minute-time.Second {
				t.Fatalf("%s left", left)
			}
			time.Sleep(7 * time.Second)
		}
		if got := g.Counters()[fakegoogle.MethodGenerateAccessToken]; got > 120 {
			t.Errorf("%d calls in 47 minutes", got)
		}
	})
}

// The node's clock is wrong: what callers are told is how long a token lasts.
func TestClockThatIsFourMinutesOffHarmsNobody(t *testing.T) {
	for _, ahead := range []time.Duration{-4 * time.Minute, 4 * time.Minute} {
		for _, of := range endpoints() {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, ahead)
				e := newEngine(t, g.federation())
				for start := time.Now(); time.Since(start) < 3*time.Hour; time.Sleep(97 * time.Second) {
					token, err := of.ask(t.Context(), e, linked)
					check(t, err)
					grant, found := g.Inspect(token.Value())
					if of.name == "ID token" {
						claims, err := claimsOf(token.Value())
						check(t, err)
						grant.Expiry, found = time.Unix(claims.Expiry, 0), true
					}
					if off := time.Until(token.Expiry) - (time.Until(grant.Expiry) - ahead); !found || off.Abs() > 2*time.Second {
						t.Fatalf("Google %s ahead, %s: the life is %s off", ahead, of.name, off)
					}
				}
			})
		}
	}
}
