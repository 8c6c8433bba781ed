package podevents

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"gke-metadata-emulator/tokens"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// writes are the events that an API server was sent, after some failures.
type writes struct {
	failures int
	created  []*corev1.Event
}

func (w *writes) CreateEvent(_ context.Context, event *corev1.Event) (*corev1.Event, error) {
	if w.failures--; w.failures >= 0 {
		return nil, errors.New("no API server")
	}
	w.created = append(w.created, event)
	return event, nil
}

func (w *writes) UpdateEvent(context.Context, *corev1.Event) (*corev1.Event, error) {
	return nil, errors.New("unexpected update")
}

func (w *writes) PatchEvent(context.Context, *corev1.Event, []byte) (*corev1.Event, error) {
	return nil, errors.New("unexpected patch")
}

func TestNotifier_WritesToTheAPIServerUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, registry := &writes{failures: 2}, prometheus.NewRegistry()
		notifier, err := New(Options{Client: server, Node: "node-1", Metrics: registry, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		source := notifier.Tokens(&refusing{err: &tokens.Error{Kind: tokens.Denied, Message: "It is so."}})
		_, _ = source.AccessToken(t.Context(), cart, nil) // before Run
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- notifier.Run(ctx) }()
		time.Sleep(time.Minute) // of the bubble's clock
		synctest.Wait()
		if len(server.created) != 1 {
			t.Fatalf("%d events are written, want 1", len(server.created))
		}
		if e := server.created[0]; e.Reason != "GoogleTokenDenied" || e.Source.Component != "gke-metadata-emulator" || e.Source.Host != "node-1" || e.InvolvedObject.Name != "cart-1" {
			t.Errorf("event %+v", e)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		_, _ = source.AccessToken(t.Context(), cart, nil)
		time.Sleep(time.Minute)
		if len(server.created) != 1 {
			t.Errorf("%d events are written after the end", len(server.created)-1)
		}
	})
}
