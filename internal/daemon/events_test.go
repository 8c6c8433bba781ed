package daemon

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

// recorded are the events that a recorder was given.
type recorded []string

func (r *recorded) Event(object runtime.Object, eventtype, reason, message string) {
	on := object.(*corev1.ObjectReference)
	*r = append(*r, fmt.Sprintf("%s %s/%s %s %s %s: %s", on.Kind, on.Namespace, on.Name, on.UID, eventtype, reason, message))
}

// refusing refuses everything with an error.
type refusing struct {
	server.Identity
	err error
}

func (r *refusing) AccessToken(context.Context, identity.Workload, tokens.Scopes) (tokens.Token, error) {
	return tokens.Token{}, r.err
}

func (r *refusing) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, r.err
}

func (r *refusing) Workload(context.Context, identity.Pod) (identity.Workload, error) {
	return identity.Workload{}, r.err
}

// teller is what tells of refusals, on a clock of the test's.
type teller struct {
	recorded
	refusing
	now      time.Time
	tokens   toldTokens
	identity toldIdentity
}

func newTeller(t *testing.T) *teller {
	t.Helper()
	told := &teller{now: time.Unix(0, 0)}
	refusals, err := newRefusals(&told.recorded, func() time.Time { return told.now })
	if err != nil {
		t.Fatal(err)
	}
	told.tokens, told.identity = toldTokens{&told.refusing, refusals}, toldIdentity{&told.refusing, refusals}
	return told
}

var cart = identity.Workload{Pod: identity.Pod{Namespace: "shop", Name: "cart-1", UID: "uid-1"}}

func (told *teller) ask(ctx context.Context, w identity.Workload) {
	_, _ = told.tokens.AccessToken(ctx, w, nil)
}

func TestWhatSomebodyHasToMendIsToldOnThePod(t *testing.T) {
	const pod = "Pod shop/cart-1 uid-1 Warning "
	for kind, want := range map[tokens.Kind]string{
		tokens.Denied:        pod + "GoogleTokenDenied: It is so.",
		tokens.NotFound:      pod + "GoogleServiceAccountNotFound: It is so.",
		tokens.Misconfigured: pod + "MetadataServerMisconfigured: It is so.\nNo pod of the node gets a token until the cluster's operator mends this",
		tokens.Unavailable:   pod + "GoogleTokenUnavailable: It is so.\nIt is tried again at each request.",
		tokens.NotLinked:     "", // gcloud asks for what nobody has set up, before each access token
		tokens.Invalid:       "", // the caller's own doing, and it was told
	} {
		t.Run(string(kind), func(t *testing.T) {
			for name, ask := range map[string]func(*teller){
				"access token": func(told *teller) { told.ask(t.Context(), cart) },
				"ID token": func(told *teller) {
					_, _ = told.tokens.IDToken(t.Context(), cart, tokens.IDTokenRequest{})
				},
			} {
				told := newTeller(t)
				told.err = fmt.Errorf("wrapped: %w", &tokens.Error{Kind: kind, Message: "It is so.\n", Err: errors.New("ya29.secret")})
				ask(told)
				if want == "" && len(told.recorded) == 0 {
					continue
				}
				if len(told.recorded) != 1 || !strings.HasPrefix(told.recorded[0], want) || want == "" || strings.Contains(told.recorded[0], "secret") {
					t.Errorf("%s: %q, want %q", name, told.recorded, want)
				}
			}
		})
	}
}

func TestABadAnnotationIsToldOnThePod(t *testing.T) {
	told := newTeller(t)
	told.err = &identity.Error{Reason: identity.BadAnnotation, Message: "It is no address: kubectl annotate"}
	_, _ = told.identity.Workload(t.Context(), cart.Pod)
	if len(told.recorded) != 1 || told.recorded[0] != "Pod shop/cart-1 uid-1 Warning BadServiceAccountAnnotation: It is no address: kubectl annotate" {
		t.Errorf("%q", told.recorded)
	}
	told.err = &identity.Error{Reason: identity.NotReady, Message: "not yet"}
	_, _ = told.identity.Workload(t.Context(), cart.Pod)
	if len(told.recorded) != 1 {
		t.Errorf("%q", told.recorded)
	}
}

func TestNothingIsToldWhereNobodyWasRefused(t *testing.T) {
	told := newTeller(t)
	told.ask(t.Context(), cart) // no error
	told.err = &tokens.Error{Kind: tokens.Unavailable, Message: "It is so."}
	hungUp, cancel := context.WithCancel(t.Context())
	cancel()
	told.ask(hungUp, cart)
	told.ask(t.Context(), identity.Workload{}) // of no pod
	told.err = errors.New("of no kind")
	told.ask(t.Context(), cart)
	if len(told.recorded) != 0 {
		t.Errorf("%q", told.recorded)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	told.err = &tokens.Error{Kind: tokens.Unavailable, Message: "It is so."}
	told.ask(late, cart)
	if len(told.recorded) != 1 {
		t.Errorf("of a request that took too long: %q", told.recorded)
	}
}

func TestTheSameIsSaidOnceAMinute(t *testing.T) {
	told := newTeller(t)
	denied := func(message string) { told.err = &tokens.Error{Kind: tokens.Denied, Message: message} }
	said := func(want int) {
		t.Helper()
		if len(told.recorded) != want {
			t.Errorf("%d events, want %d", len(told.recorded), want)
		}
	}
	denied("one")
	for range 1000 {
		told.ask(t.Context(), cart)
	}
	said(1)
	denied("another")
	told.ask(t.Context(), cart)
	said(2)
	other := cart
	other.Pod.UID = "uid-2"
	told.ask(t.Context(), other)
	said(3)
	told.now = told.now.Add(time.Minute - 1)
	told.ask(t.Context(), cart)
	said(3)
	told.now = told.now.Add(1)
	told.ask(t.Context(), cart)
	said(4)
}

func TestWhatHasBeenSaidIsForgottenAtABound(t *testing.T) {
	told := newTeller(t)
	for i := range 5 * eventsRemembered {
		told.err = &tokens.Error{Kind: tokens.Denied, Message: fmt.Sprint(i)}
		told.ask(t.Context(), cart)
	}
	if n := told.tokens.refusals.said.Len(); n != eventsRemembered {
		t.Errorf("%d are remembered", n)
	}
}

func TestALongMessageKeepsItsBeginAndItsEnd(t *testing.T) {
	for _, filler := range []string{"x", "é", "\xff", "日"} {
		for n := range 1200 {
			message := "It is so: " + strings.Repeat(filler, n) + " gcloud run this"
			got := shortened(message, "\nRemedy.")
			if len(got) > maxEventText || !utf8.ValidString(got) || !strings.HasPrefix(got, "It is so: ") || !strings.HasSuffix(got, " gcloud run this\nRemedy.") {
				t.Fatalf("%d times %q: %d bytes, %q", n, filler, len(got), got)
			}
		}
	}
	if got := shortened("short", ""); got != "short" {
		t.Errorf("%q", got)
	}
}
