package tokens

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"
)

func TestCache_ForgottenRefusalIsRetriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		refused := func(step string) {
			t.Helper()
			if _, err := b.cache.AccessToken(t.Context(), linked, DefaultScopes()); err == nil {
				t.Fatalf("%s: no refusal", step)
			}
		}
		b.upstream.set(func(u *upstream) { u.err = &Error{Kind: Misconfigured, Message: "invalid_grant"} })
		refused("first request")
		b.upstream.set(func(u *upstream) { u.err = nil })
		refused("second request")
		b.wantCalls(1)
		b.cache.forgetFailures()
		b.wantToken("token-2")
	})
}

func TestCache_ForgottenFailureToRenewIsRetriedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.get()
		b.upstream.set(func(u *upstream) { u.err = errDown })
		time.Sleep(40 * time.Minute) // the backoff is a minute long now
		synctest.Wait()
		b.upstream.set(func(u *upstream) { u.err = nil })
		calls := b.upstream.count()
		b.cache.forgetFailures()
		b.wantToken("token-1") // nobody waits
		time.Sleep(overdueSpread)
		synctest.Wait()
		b.wantCalls(calls + 1)
	})
}

// An attempt with the old credential can end after the change.
func TestCache_DiscardedFailureIsNotCached(t *testing.T) {
	for name, withToken := range map[string]bool{"without a token": false, "at the renewal": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newCacheFixture(t)
				if withToken {
					b.get()
					time.Sleep(14 * time.Minute)
					synctest.Wait()
				}
				b.upstream.set(func(u *upstream) {
					u.latency, u.err = time.Second, &Error{Kind: Misconfigured, Message: "invalid_grant"}
				})
				if withToken {
					time.Sleep(time.Hour - 14*time.Minute - minLifetime + time.Second) // the token is short
				}
				var first sync.WaitGroup
				first.Go(func() { _, _ = b.cache.AccessToken(t.Context(), linked, DefaultScopes()) })
				synctest.Wait()
				b.upstream.set(func(u *upstream) { u.latency, u.err = 0, nil })
				b.cache.forgetFailures()
				token := b.get()
				first.Wait()
				b.wantToken(token.Value())
				if left := time.Until(token.Expiry); left < minLifetime {
					t.Errorf("%s are left", left)
				}
			})
		})
	}
}

func TestSourceCredential_ChangeIsInEffectAtOnce(t *testing.T) {
	for name, old := range map[string]tokenSource{
		"refused": func() (*oauth2.Token, error) {
			return nil, &oauth2.RetrieveError{Response: &http.Response{StatusCode: http.StatusBadRequest}, ErrorCode: "invalid_grant"}
		},
		"hanging": func() (*oauth2.Token, error) {
			time.Sleep(time.Minute)
			return nil, context.DeadlineExceeded
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				next := g.operatorIn(t, "")
				current := SourceCredential(old)
				var mu sync.Mutex
				e := newEngine(t, g.impersonation(tokenSource(func() (*oauth2.Token, error) {
					mu.Lock()
					source := current
					mu.Unlock()
					return source.Token()
				}), AllowAll{}))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := e.AccessToken(ctx, linked, DefaultScopes()); err == nil {
					t.Fatal("a token with the old credential")
				}
				mu.Lock()
				current = next
				mu.Unlock()
				changed, start := e.Changed(), time.Now()
				e.SourceCredentialChanged()
				token, err := e.AccessToken(t.Context(), linked, DefaultScopes())
				check(t, err)
				g.wantGrant(t, token, "serviceAccount:"+testGSA, gcloudLogin.member)
				if waited := time.Since(start); waited > 0 {
					t.Errorf("the request waited for %s", waited)
				}
				select {
				case <-changed:
				default:
					t.Error("the change is not signalled")
				}
				time.Sleep(2 * time.Minute) // until the old refresh has ended
			})
		})
	}
}
