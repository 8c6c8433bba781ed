package podevents

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

// recorded are the events of a recorder, as text.
type recorded []string

func (r *recorded) Event(object runtime.Object, eventtype, reason, message string) {
	pod := object.(*corev1.ObjectReference)
	*r = append(*r, fmt.Sprintf("%s %s/%s %s %s %s: %s", pod.Kind, pod.Namespace, pod.Name, pod.UID, eventtype, reason, message))
}

// refusing fails every request with err.
type refusing struct {
	server.Identity
	err     error
	warning string // of workloads, if err is nil
}

func (r *refusing) AccessToken(context.Context, identity.Workload, tokens.Scopes) (tokens.Token, error) {
	return tokens.Token{}, r.err
}

func (r *refusing) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, r.err
}

func (r *refusing) Workload(context.Context, identity.Pod) (identity.Workload, error) {
	return identity.Workload{Warning: r.warning}, r.err
}

// fixture is a notifier on a clock of the test, with decorated sources that refuse.
type fixture struct {
	recorded
	refusing
	now      time.Time
	events   *eventNotifier
	tokens   eventingTokens
	identity eventingIdentity
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{now: time.Unix(0, 0)}
	events, err := newEventNotifier(&f.recorded, func() time.Time { return f.now })
	if err != nil {
		t.Fatal(err)
	}
	f.events, f.tokens, f.identity = events, eventingTokens{&f.refusing, events}, eventingIdentity{&f.refusing, events}
	return f
}

var cart = identity.Workload{Pod: identity.Pod{Namespace: "shop", Name: "cart-1", UID: "uid-1"}}

func (f *fixture) request(ctx context.Context, w identity.Workload) {
	_, _ = f.tokens.AccessToken(ctx, w, nil)
}

func TestTokens_WriteAnEventAboutErrorsThatTheOwnerHasToFix(t *testing.T) {
	const pod = "Pod shop/cart-1 uid-1 Warning "
	for kind, want := range map[tokens.Kind]string{
		tokens.Denied:        pod + "GoogleTokenDenied: It is so.",
		tokens.NotFound:      pod + "GoogleServiceAccountNotFound: It is so.",
		tokens.Misconfigured: pod + "MetadataServerMisconfigured: It is so.\nNo pod of the node gets a token until the cluster's operator fixes this",
		tokens.Unavailable:   pod + "GoogleTokenUnavailable: It is so.\nEach request retries.",
		tokens.NotLinked:     "", // gcloud requests an ID token of accounts that are not linked before each access token
		tokens.Invalid:       "", // a mistake in the caller's request, which the answer explains
	} {
		t.Run(string(kind), func(t *testing.T) {
			for name, request := range map[string]func(*fixture){
				"access token": func(f *fixture) { f.request(t.Context(), cart) },
				"ID token": func(f *fixture) {
					_, _ = f.tokens.IDToken(t.Context(), cart, tokens.IDTokenRequest{})
				},
			} {
				f := newFixture(t)
				f.err = fmt.Errorf("wrapped: %w", &tokens.Error{Kind: kind, Message: "It is so.\n", Err: errors.New("ya29.secret")})
				request(f)
				if want == "" && len(f.recorded) == 0 {
					continue
				}
				if len(f.recorded) != 1 || !strings.HasPrefix(f.recorded[0], want) || want == "" || strings.Contains(f.recorded[0], "secret") {
					t.Errorf("%s: %q, want %q", name, f.recorded, want)
				}
			}
		})
	}
}

func TestIdentity_WritesAnEventAboutABadAnnotation(t *testing.T) {
	f := newFixture(t)
	f.err = &identity.Error{Reason: identity.BadAnnotation, Message: "It is no address: kubectl annotate"}
	_, _ = f.identity.Workload(t.Context(), cart.Pod)
	if len(f.recorded) != 1 || f.recorded[0] != "Pod shop/cart-1 uid-1 Warning BadServiceAccountAnnotation: It is no address: kubectl annotate" {
		t.Errorf("%q", f.recorded)
	}
	f.err = &identity.Error{Reason: identity.NotReady, Message: "not yet"}
	_, _ = f.identity.Workload(t.Context(), cart.Pod)
	if len(f.recorded) != 1 {
		t.Errorf("%q", f.recorded)
	}
}

func TestIdentity_WritesAnEventAboutAnIgnoredAnnotation(t *testing.T) {
	f := newFixture(t)
	f.warning = "It is ignored: kubectl annotate"
	for range 3 {
		if w, err := f.identity.Workload(t.Context(), cart.Pod); err != nil || w.Warning != f.warning {
			t.Errorf("%+v, %v", w, err)
		}
	}
	if len(f.recorded) != 1 || f.recorded[0] != "Pod shop/cart-1 uid-1 Warning BadServiceAccountAnnotation: It is ignored: kubectl annotate" {
		t.Errorf("%q", f.recorded)
	}
	f.warning = ""
	_, _ = f.identity.Workload(t.Context(), cart.Pod)
	if len(f.recorded) != 1 {
		t.Errorf("%q", f.recorded)
	}
}

func TestTokens_WriteNoEventUnlessAPodIsRefused(t *testing.T) {
	f := newFixture(t)
	f.request(t.Context(), cart) // no error
	f.err = &tokens.Error{Kind: tokens.Unavailable, Message: "It is so."}
	hungUp, cancel := context.WithCancel(t.Context())
	cancel()
	f.request(hungUp, cart)
	f.request(t.Context(), identity.Workload{}) // without a pod
	f.err = errors.New("without a kind")
	f.request(t.Context(), cart)
	if len(f.recorded) != 0 {
		t.Errorf("%q", f.recorded)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	f.err = &tokens.Error{Kind: tokens.Unavailable, Message: "It is so."}
	f.request(late, cart)
	if len(f.recorded) != 1 {
		t.Errorf("for a request that timed out: %q", f.recorded)
	}
}

func TestNotifier_RepeatsAnEventOnceAMinute(t *testing.T) {
	f := newFixture(t)
	denied := func(message string) { f.err = &tokens.Error{Kind: tokens.Denied, Message: message} }
	expect := func(want int) {
		t.Helper()
		if len(f.recorded) != want {
			t.Errorf("%d events, want %d", len(f.recorded), want)
		}
	}
	denied("one")
	for range 1000 {
		f.request(t.Context(), cart)
	}
	expect(1)
	denied("another")
	f.request(t.Context(), cart)
	expect(2)
	other := cart
	other.Pod.UID = "uid-2"
	f.request(t.Context(), other)
	expect(3)
	f.now = f.now.Add(time.Minute - 1)
	f.request(t.Context(), cart)
	expect(3)
	f.now = f.now.Add(1)
	f.request(t.Context(), cart)
	expect(4)
}

func TestNotifier_BoundsItsMemory(t *testing.T) {
	f := newFixture(t)
	for i := range 5 * maxRemembered {
		f.err = &tokens.Error{Kind: tokens.Denied, Message: fmt.Sprint(i)}
		f.request(t.Context(), cart)
	}
	if n := f.events.lastSent.Len(); n != maxRemembered {
		t.Errorf("%d events are remembered", n)
	}
}

func TestShortened_KeepsBeginningAndEnd(t *testing.T) {
	for _, filler := range []string{"x", "é", "\xff", "日"} {
		for n := range 1200 {
			message := "It is so: " + strings.Repeat(filler, n) + " gcloud run this"
			got := shortened(message, "\nRemedy.")
			if len(got) > maxMessage || !utf8.ValidString(got) || !strings.HasPrefix(got, "It is so: ") || !strings.HasSuffix(got, " gcloud run this\nRemedy.") {
				t.Fatalf("%d times %q: %d bytes, %q", n, filler, len(got), got)
			}
		}
	}
	if got := shortened("short", ""); got != "short" {
		t.Errorf("%q", got)
	}
}

func TestTokens_EventContainsDetailOnce(t *testing.T) {
	f := newFixture(t)
	for port := range 3 {
		f.err = &tokens.Error{Kind: tokens.Unavailable, Message: "It is so.", Detail: fmt.Sprintf("read tcp 10.0.0.1:%d: connection reset by peer", port)}
		f.request(t.Context(), cart)
	}
	if len(f.recorded) != 1 || !strings.Contains(f.recorded[0], "It is so.\nCause: read tcp 10.0.0.1:0: connection reset by peer\nEach request retries.") {
		t.Errorf("%q", f.recorded)
	}
}
