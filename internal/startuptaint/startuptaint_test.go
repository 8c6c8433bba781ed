package startuptaint

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const testTaint = "gke-metadata-emulator/not-ready"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is an API server with the nodes of a fake clientset.
type cluster struct{ *fake.Clientset }

func (c cluster) Node(ctx context.Context, name string) (*corev1.Node, error) {
	return c.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
}

func (c cluster) PatchNode(ctx context.Context, name string, patch []byte) error {
	_, err := c.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// newRemover returns one whose daemon serves if serving returns nil.
func newRemover(client nodeEditor, serving func(context.Context) error) *Remover {
	r := New(Options{Key: testTaint, Node: "node-1", Client: client, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	r.serving = serving
	return r
}

func tainted(keys ...string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	for _, key := range keys {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
	}
	return node
}

func taintKeys(t *testing.T, client cluster) []string {
	t.Helper()
	node, err := client.Node(t.Context(), "node-1")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, taint := range node.Spec.Taints {
		keys = append(keys, taint.Key)
	}
	return keys
}

func TestRemover_RemovesTheTaintOnlyWhileTheDaemonServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := cluster{fake.NewClientset(tainted("a", testTaint, "b"))}
		var serves atomic.Bool
		serving := func(context.Context) error {
			if !serves.Load() {
				return errors.New("not yet")
			}
			return nil
		}
		remover := newRemover(client, serving)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- remover.Run(ctx) }()
		expect := func(when string, after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after) // of the bubble's clock
			synctest.Wait()
			if got := taintKeys(t, client); !slices.Equal(got, want) {
				t.Errorf("%s: taints %v, want %v", when, got, want)
			}
		}
		rejoin := func() {
			t.Helper()
			if _, err := client.CoreV1().Nodes().Update(t.Context(), tainted("c", testTaint), metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		expect("before it serves", time.Minute, "a", testTaint, "b")
		if got := testutil.CollectAndCount(remover.results); got != 0 {
			t.Errorf("%d results are counted while it waits", got)
		}
		serves.Store(true)
		expect("once it serves", 200*time.Millisecond, "a", "b")
		rejoin()
		expect("after the node has rejoined", 31*time.Second, "c") // a read every 20 to 30 s, then 200 ms
		serves.Store(false)
		rejoin()
		expect("after it has rejoined and the daemon does not serve", 5*time.Minute, "c", testTaint)
		serves.Store(true)
		expect("when it serves again", 200*time.Millisecond, "c")
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestRemover_RetriesWithBackoff(t *testing.T) {
	for _, verb := range []string{"get", "patch"} {
		t.Run(verb, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := cluster{fake.NewClientset(tainted(testTaint))}
				var attempts []time.Time
				client.PrependReactor(verb, "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
					attempts = append(attempts, time.Now())
					return len(attempts) <= 10, nil, errors.New("no API server")
				})
				remover := newRemover(client, func(context.Context) error { return nil })
				ctx, stop := context.WithCancel(t.Context())
				go func() { _ = remover.Run(ctx) }()
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				stop()
				if keys := taintKeys(t, client); len(keys) != 0 {
					t.Errorf("taints %v", keys)
				}
				for i := 1; i < min(len(attempts), 11); i++ {
					if delay := attempts[i].Sub(attempts[i-1]); delay < 500*time.Millisecond || delay > 45*time.Second {
						t.Errorf("attempt %d came %s after the previous one", i, delay)
					}
				}
				for result, want := range map[string]float64{"failed": 10, "removed": 1} {
					if got := testutil.ToFloat64(remover.results.WithLabelValues(result)); got != want {
						t.Errorf("%s: %v, want %v", result, got, want)
					}
				}
			})
		})
	}
}

func TestServing_IsAnAnswerOfTheDaemonItself(t *testing.T) {
	answer := func(status int, flavor string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Metadata-Flavor", flavor)
			w.WriteHeader(status)
		}
	}
	for name, test := range map[string]struct {
		ready   error
		handler http.HandlerFunc
		want    string // in the error; empty: no error
	}{
		"ready and answering": {nil, answer(http.StatusOK, "Google"), ""},
		"not ready":           {errors.New("no pods yet"), answer(http.StatusOK, "Google"), "no pods yet"},
		"another server":      {nil, answer(http.StatusOK, ""), "200 OK"},
		"an error":            {nil, answer(http.StatusServiceUnavailable, "Google"), "503"},
		"no answer":           {nil, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.handler)
			defer server.Close()
			err := serving(func() error { return test.ready }, server.Listener.Addr().String())(t.Context())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
