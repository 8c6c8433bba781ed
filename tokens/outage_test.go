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

// fakeCluster issues KSA tokens like an API server that can fail (down) or never answer
// (hanging).
type fakeCluster struct {
	SubjectTokens
	down, hanging atomic.Bool
	calls         atomic.Int64
}

func (g *fakeCluster) SubjectToken(ctx context.Context, w identity.Workload, audience string, life time.Duration) (Token, error) {
	g.calls.Add(1)
	switch {
	case g.hanging.Load():
		<-ctx.Done()
		return Token{}, unreachable("get a KSA token", "the API server", ctx.Err())
	case g.down.Load():
		return Token{}, unreachable("get a KSA token", "the API server", http.ErrServerClosed)
	}
	return g.SubjectTokens.SubjectToken(ctx, w, audience, life)
}

var allMethods = []string{fakegoogle.MethodSTSToken, fakegoogle.MethodGenerateAccessToken, fakegoogle.MethodGenerateIDToken}

// Whenever the outage begins, the tokens of a workload in use have three quarters of an
// hour left.
func TestOutage_45MinutesOfGoogleGoUnnoticed(t *testing.T) {
	for _, uptime := range []time.Duration{0, 7 * time.Minute, 40 * time.Minute, 3 * time.Hour, 5*time.Hour + 13*time.Minute} {
		t.Run(uptime.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				e := newEngine(t, g.federation())
				request := func() {
					t.Helper()
					for _, kind := range tokenKinds() {
						token, err := kind.request(t.Context(), e, linked)
						check(t, err)
						if time.Until(token.Expiry) <= 0 {
							t.Fatal("an expired token")
						}
					}
				}
				request()
				for start := time.Now(); time.Since(start) < uptime; time.Sleep(min(20*time.Minute, max(uptime-time.Since(start), 1))) {
					request()
				}
				for _, method := range allMethods {
					g.SetFault(method, fakegoogle.Fault{Status: http.StatusServiceUnavailable})
				}
				for start := time.Now(); time.Since(start) < 45*time.Minute-time.Second; time.Sleep(10 * time.Second) {
					request()
				}
				g.ClearFaults()
				time.Sleep(2 * maxRetryDelay)
				token, err := e.AccessToken(t.Context(), linked, DefaultScopes())
				check(t, err)
				if left := time.Until(token.Expiry); left < 45*time.Minute {
					t.Errorf("after the outage: %s left", left)
				}
			})
		})
	}
}

func TestOutage_45MinutesOfAPIServerGoUnnoticed(t *testing.T) {
	for name, fail := range map[string]func(*fakeCluster) *atomic.Bool{
		"fails": func(g *fakeCluster) *atomic.Bool { return &g.down },
		"hangs": func(g *fakeCluster) *atomic.Bool { return &g.hanging },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				cluster := &fakeCluster{SubjectTokens: g.issuer}
				e := newEngine(t, g.federation(func(f *Federation) { f.Subjects = cluster }))
				request := func(w identity.Workload, kind tokenKind) Token {
					t.Helper()
					start := time.Now()
					token, err := kind.request(t.Context(), e, w)
					check(t, err)
					if waited := time.Since(start); waited > 0 {
						t.Fatalf("waited for %s", waited)
					}
					return token
				}
				for range 20 {
					request(linked, tokenKinds()[0])
					time.Sleep(11 * time.Minute)
				}
				fail(cluster).Store(true)
				for i := range 45 {
					// Also a token that is requested for the first time now.
					request(linked, tokenKind{request: func(ctx context.Context, s Source, w identity.Workload) (Token, error) {
						return s.IDToken(ctx, w, IDTokenRequest{Audience: fmt.Sprint(i)})
					}})
					if left := time.Until(request(linked, tokenKinds()[0]).Expiry); left < 44*time.Minute {
						t.Errorf("after %d minutes: %s left", i, left)
					}
					time.Sleep(time.Minute - time.Second)
				}
				before := cluster.calls.Load()
				fail(cluster).Store(false)
				time.Sleep(5 * time.Minute)
				if cluster.calls.Load() == before {
					t.Error("the API server is back, but gets no request")
				}
				request(linked, tokenKinds()[0])
			})
		})
	}
}

func TestOutage_RefusalIsCachedBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		g.Unbind(testGSA, workloadIdentityUser, testCaller)
		g.SetFault(fakegoogle.MethodGenerateAccessToken, fakegoogle.Fault{Latency: 50 * time.Millisecond})
		e := newEngine(t, g.federation())
		request := func(w identity.Workload) (time.Duration, error) {
			start := time.Now()
			_, err := e.AccessToken(t.Context(), w, DefaultScopes())
			return time.Since(start), err
		}
		took, err := request(linked)
		wantError(t, err, Denied, "IAM returned 403 Forbidden: Permission 'iam.serviceAccounts.getAccessToken' denied")
		if took != 50*time.Millisecond {
			t.Errorf("answered after %s", took)
		}
		for range 100 {
			took, err = request(linked)
			wantError(t, err, Denied, "IAM returned 403 Forbidden")
			if took != 0 {
				t.Fatalf("answered after %s, although it is cached", took)
			}
		}
		g.Bind(testGSA, workloadIdentityUser, testCaller)
		const other = "other@shop-project.iam.gserviceaccount.com"
		g.AddServiceAccount(other)
		g.Bind(other, workloadIdentityUser, testCaller)
		if _, err := request(with(linked, func(w *identity.Workload) { w.GSA = other })); err != nil {
			t.Errorf("after another annotation: %v", err)
		}
		time.Sleep(refusalTTL)
		if _, err := request(linked); err != nil {
			t.Errorf("%s after the binding was added: %v", refusalTTL, err)
		}
	})
}

func TestOutage_RetryAfterIsHonouredWithinDeadline(t *testing.T) {
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
			t.Errorf("after %s: Retry-After %s", time.Since(start), got)
		}
	})
}

func TestOutage_HangingConnectionIsRetriedWithinDeadline(t *testing.T) {
	for _, method := range allMethods[:2] {
		synctest.Test(t, func(t *testing.T) {
			g := googleInBubble(t, 0)
			e := newEngine(t, g.federation())
			g.SetFault(method, fakegoogle.Fault{Latency: time.Hour, Times: 1})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			start := time.Now()
			if _, err := e.AccessToken(ctx, linked, DefaultScopes()); err != nil || time.Since(start) > attemptTimeout+time.Second {
				t.Errorf("%s: %v after %s", method, err, time.Since(start))
			}
		})
	}
}

func TestOutage_ThreeMinuteTokensAreServed(t *testing.T) {
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

// The node's clock is wrong, but callers get the remaining lifetime.
func TestClock_SkewOfFourMinutesIsHarmless(t *testing.T) {
	for _, ahead := range []time.Duration{-4 * time.Minute, 4 * time.Minute} {
		for _, kind := range tokenKinds() {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, ahead)
				e := newEngine(t, g.federation())
				for start := time.Now(); time.Since(start) < 3*time.Hour; time.Sleep(97 * time.Second) {
					token, err := kind.request(t.Context(), e, linked)
					check(t, err)
					grant, found := g.Inspect(token.Value())
					if kind.name == "ID token" {
						claims, _, err := parseJWT(token.Value())
						check(t, err)
						grant.Expiry, found = claims.Expiry.Time(), true
					}
					if off := time.Until(token.Expiry) - (time.Until(grant.Expiry) - ahead); !found || off.Abs() > 2*time.Second {
						t.Fatalf("Google %s ahead, %s: the lifetime is %s off", ahead, kind.name, off)
					}
				}
			})
		}
	}
}
