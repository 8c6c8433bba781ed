package podevents

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-logr/logr"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

const (
	// repeatInterval is the shortest time between two equal events of a pod: a client
	// in a retry loop must not displace the events of other pods.
	repeatInterval = time.Minute
	// maxRemembered is the number of different events that are remembered for it.
	maxRemembered = 1024
	// maxMessage is the API server's limit in bytes for the note of an event in
	// events.k8s.io/v1. core/v1 has none, but the same events are served by both.
	maxMessage = 1024
)

// Options of [New]. All are required.
type Options struct {
	Client  eventWriter
	Node    string // name of the node, the source of the events
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Notifier writes events about refusals.
type Notifier struct {
	*eventNotifier
	stop func()
}

// New returns a notifier that has started. The caller must call [Notifier.Run].
func New(o Options) (*Notifier, error) {
	results := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_events_total",
		Help: "Events about pods that get no token, by result: written, or failed (it is retried for two minutes).",
	}, []string{"result"})
	o.Metrics.MustRegister(results)
	// The broadcaster drops events until it has a sink, so it gets one before the
	// first event rather than in Run.
	ctx, stop := context.WithCancel(logr.NewContextWithSlogLogger(context.Background(), o.Log))
	broadcaster := record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{BurstSize: podBurst, QPS: podRate}))
	broadcaster.StartRecordingToSink(sink{ctx, o.Client, results})
	source := corev1.EventSource{Component: component, Host: o.Node}
	events, err := newEventNotifier(broadcaster.NewRecorder(runtime.NewScheme(), source).WithLogger(logr.FromSlogHandler(o.Log.Handler())), time.Now)
	if err != nil {
		stop()
		return nil, err
	}
	return &Notifier{eventNotifier: events, stop: stop}, nil
}

// Run writes events until ctx ends, and returns nil then. Later events are dropped.
func (n *Notifier) Run(ctx context.Context) error {
	<-ctx.Done()
	n.stop()
	return nil
}

// recorder is the part of client-go's [record.EventRecorder] that is needed. It does
// not wait for the API server.
type recorder interface {
	Event(object runtime.Object, eventtype, reason, message string)
}

// eventNotifier decides which refusals are events.
type eventNotifier struct {
	recorder recorder
	now      func() time.Time
	seed     maphash.Seed // of the hash of messages

	mu       sync.Mutex
	lastSent *simplelru.LRU[eventKey, time.Time] // guarded by mu
}

// eventKey is what two equal events have in common.
type eventKey struct {
	podUID, reason string
	message        uint64 // its hash
}

func newEventNotifier(recorder recorder, now func() time.Time) (*eventNotifier, error) {
	lastSent, err := simplelru.NewLRU[eventKey, time.Time](maxRemembered, nil)
	return &eventNotifier{recorder: recorder, now: now, seed: maphash.MakeSeed(), lastSent: lastSent}, err
}

// eventType is how a kind of error is reported. The remedy completes messages without
// a remedy.
type eventType struct{ reason, remedy string }

// tokenEvents are the kinds of errors that another person than the caller has to fix.
var tokenEvents = map[tokens.Kind]eventType{
	tokens.Denied:        {reason: "GoogleTokenDenied"},
	tokens.NotFound:      {reason: "GoogleServiceAccountNotFound"},
	tokens.Misconfigured: {"MetadataServerMisconfigured", "\nNo pod of the node gets a token until the cluster's operator fixes this. For details, see the log of gke-metadata-emulator on the node."},
	tokens.Unavailable:   {"GoogleTokenUnavailable", "\nEach request retries. If the error persists, check the node's network path to the service above, and the log of gke-metadata-emulator on the node."},
}

const badAnnotation = "BadServiceAccountAnnotation"

// tokenError notifies about an error of a token source.
func (n *eventNotifier) tokenError(ctx context.Context, pod identity.Pod, err error) {
	var e *tokens.Error
	if !errors.As(err, &e) || errors.Is(ctx.Err(), context.Canceled) { // canceled: the caller has hung up and is not refused
		return
	}
	if event, found := tokenEvents[e.Kind]; found {
		n.notify(pod, event, e.Message, e.Detail)
	}
}

// identityError notifies about an annotation of a KSA that cannot be parsed.
func (n *eventNotifier) identityError(pod identity.Pod, err error) {
	var e *identity.Error
	if errors.As(err, &e) && e.Reason == identity.BadAnnotation {
		n.notify(pod, eventType{reason: badAnnotation}, e.Message, "")
	}
}

// notify sends an event. Events that differ only in the detail are equal: it can contain
// the port of a connection.
func (n *eventNotifier) notify(pod identity.Pod, event eventType, message, detail string) {
	if pod.UID == "" || !n.shouldSend(eventKey{pod.UID, event.reason, maphash.String(n.seed, message)}) {
		return
	}
	message = strings.TrimSpace(message)
	if detail != "" {
		message += "\nCause: " + detail
	}
	object := &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: types.UID(pod.UID)}
	n.recorder.Event(object, corev1.EventTypeWarning, event.reason, shortened(message, event.remedy))
}

// shouldSend reports whether an equal event has not been sent within repeatInterval,
// and remembers this one if so.
func (n *eventNotifier) shouldSend(key eventKey) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	if last, found := n.lastSent.Get(key); found && now.Sub(last) < repeatInterval {
		return false
	}
	n.lastSent.Add(key, now)
	return true
}

// shortened removes the middle of a message that is too long: a message begins with
// the problem and ends with the remedy.
func shortened(message, remedy string) string {
	const gap = " … "
	limit := maxMessage - len(remedy)
	if len(message) > limit {
		head := message[:limit/3]
		tail := message[len(message)-(limit-len(head)-len(gap)):]
		message = strings.ToValidUTF8(head, "") + gap + strings.ToValidUTF8(tail, "")
	}
	return strings.ToValidUTF8(message+remedy, string(utf8.RuneError))
}
