package daemon

import (
	"context"
	"errors"
	"hash/maphash"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

const (
	// eventPause is how long the same is not said again of a pod: a client that asks
	// without end must not take the place of other pods' events.
	eventPause = time.Minute
	// eventsRemembered is how many different things have been said in it.
	eventsRemembered = 1024
	// maxEventText is what the newer of the API server's two groups of events takes.
	maxEventText = 1024
)

// eventRecorder is the part of client-go's that is needed. It does not wait for
// the API server.
type eventRecorder interface {
	Event(object runtime.Object, eventtype, reason, message string)
}

// refusals says on a pod why it has no identity or no token, where whoever looks
// after the pod looks first.
type refusals struct {
	recorder eventRecorder
	now      func() time.Time
	seed     maphash.Seed

	mu   sync.Mutex
	said *simplelru.LRU[refusal, time.Time] // when
}

type refusal struct {
	podUID, reason string
	message        uint64
}

func newRefusals(recorder eventRecorder, now func() time.Time) (*refusals, error) {
	said, err := simplelru.NewLRU[refusal, time.Time](eventsRemembered, nil)
	return &refusals{recorder: recorder, now: now, seed: maphash.MakeSeed(), said: said}, err
}

// event is how a kind of refusal is told. The remedy completes messages that have
// none of their own.
type event struct{ reason, remedy string }

// tokenEvents are the kinds that somebody else than the caller has to mend.
var tokenEvents = map[tokens.Kind]event{
	tokens.Denied:        {reason: "GoogleTokenDenied"},
	tokens.NotFound:      {reason: "GoogleServiceAccountNotFound"},
	tokens.Misconfigured: {"MetadataServerMisconfigured", "\nNo pod of the node gets a token until the cluster's operator mends this; the log of gke-metadata-emulator on the node says more."},
	tokens.Unavailable:   {"GoogleTokenUnavailable", "\nIt is tried again at each request. Where it stays, look at the way from the node to what did not help, and at the log of gke-metadata-emulator on the node."},
}

// token tells of an error of a token source.
func (r *refusals) token(ctx context.Context, pod identity.Pod, err error) {
	var e *tokens.Error
	if !errors.As(err, &e) || errors.Is(ctx.Err(), context.Canceled) { // the caller has hung up: nobody was refused
		return
	}
	if as, told := tokenEvents[e.Kind]; told {
		r.tell(pod, as, e.Message)
	}
}

// annotation tells of a KSA whose annotation makes no sense.
func (r *refusals) annotation(pod identity.Pod, err error) {
	var e *identity.Error
	if errors.As(err, &e) && e.Reason == identity.BadAnnotation {
		r.tell(pod, event{reason: "BadServiceAccountAnnotation"}, e.Message)
	}
}

func (r *refusals) tell(pod identity.Pod, as event, message string) {
	if pod.UID == "" || !r.isNew(refusal{pod.UID, as.reason, maphash.String(r.seed, message)}) {
		return
	}
	about := &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: types.UID(pod.UID)}
	r.recorder.Event(about, corev1.EventTypeWarning, as.reason, shortened(strings.TrimSpace(message), as.remedy))
}

// isNew says whether this has not been said just now.
func (r *refusals) isNew(what refusal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if last, found := r.said.Get(what); found && now.Sub(last) < eventPause {
		return false
	}
	r.said.Add(what, now)
	return true
}

// shortened takes what is too long from the middle: a message begins with what is
// wrong and ends with what to do.
func shortened(message, remedy string) string {
	const gap = " … "
	most := maxEventText - len(remedy)
	if len(message) > most {
		head := message[:most/3]
		tail := message[len(message)-(most-len(head)-len(gap)):]
		message = strings.ToValidUTF8(head, "") + gap + strings.ToValidUTF8(tail, "")
	}
	return strings.ToValidUTF8(message+remedy, string(utf8.RuneError))
}

// toldTokens tells on pods why they get no token.
type toldTokens struct {
	tokens.Source
	refusals *refusals
}

func (t toldTokens) AccessToken(ctx context.Context, w identity.Workload, scopes tokens.Scopes) (tokens.Token, error) {
	token, err := t.Source.AccessToken(ctx, w, scopes)
	if err != nil {
		t.refusals.token(ctx, w.Pod, err)
	}
	return token, err
}

func (t toldTokens) IDToken(ctx context.Context, w identity.Workload, request tokens.IDTokenRequest) (tokens.Token, error) {
	token, err := t.Source.IDToken(ctx, w, request)
	if err != nil {
		t.refusals.token(ctx, w.Pod, err)
	}
	return token, err
}

// toldIdentity tells on pods that their KSA's annotation makes no sense.
type toldIdentity struct {
	server.Identity
	refusals *refusals
}

func (t toldIdentity) Workload(ctx context.Context, pod identity.Pod) (identity.Workload, error) {
	w, err := t.Identity.Workload(ctx, pod)
	if err != nil {
		t.refusals.annotation(pod, err)
	}
	return w, err
}
