package daemon

import (
	"context"
	"errors"
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
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const testTaint = "gke-metadata-emulator/not-ready"

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

func TestTheStartupTaintIsRemovedOnlyWhileTheDaemonServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := cluster{fake.NewClientset(tainted("a", testTaint, "b"))}
		var up atomic.Bool
		serves := func(context.Context) error {
			if !up.Load() {
				return errors.New("not yet")
			}
			return nil
		}
		taint := newStartupTaint(testTaint, client, "node-1", serves, prometheus.NewRegistry(), discard)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- taint.run(ctx) }()
		expect := func(when string, after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after) // of the bubble's clock
			synctest.Wait()
			if got := taintKeys(t, client); !slices.Equal(got, want) {
				t.Errorf("%s: taints %v, want %v", when, got, want)
			}
		}
		again := func() {
			t.Helper()
			if _, err := client.CoreV1().Nodes().Update(t.Context(), tainted("c", testTaint), metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		expect("before it serves", time.Minute, "a", testTaint, "b")
		if got := testutil.CollectAndCount(taint.results); got != 0 {
			t.Errorf("waiting is %d results", got)
		}
		up.Store(true)
		expect("once it serves", 200*time.Millisecond, "a", "b")
		again()
		expect("when the node has joined anew", 31*time.Second, "c") // a look each 20 to 30 s, then 200 ms
		up.Store(false)
		again()
		expect("when it has joined anew and the daemon does not serve", 5*time.Minute, "c", testTaint)
		up.Store(true)
		expect("when it serves again", 200*time.Millisecond, "c")
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestRemovingTheStartupTaintIsTriedAgain(t *testing.T) {
	for _, verb := range []string{"get", "patch"} {
		t.Run(verb, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := cluster{fake.NewClientset(tainted(testTaint))}
				var at []time.Time
				client.PrependReactor(verb, "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
					at = append(at, time.Now())
					return len(at) <= 10, nil, errors.New("no API server")
				})
				taint := newStartupTaint(testTaint, client, "node-1", func(context.Context) error { return nil }, prometheus.NewRegistry(), discard)
				ctx, stop := context.WithCancel(t.Context())
				go func() { _ = taint.run(ctx) }()
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				stop()
				if keys := taintKeys(t, client); len(keys) != 0 {
					t.Errorf("taints %v", keys)
				}
				for i := 1; i < min(len(at), 11); i++ {
					if pause := at[i].Sub(at[i-1]); pause < 500*time.Millisecond || pause > 45*time.Second {
						t.Errorf("attempt %d came %s after the one before", i, pause)
					}
				}
				for result, want := range map[string]float64{"failed": 10, "removed": 1} {
					if got := testutil.ToFloat64(taint.results.WithLabelValues(result)); got != want {
						t.Errorf("%s: %v, want %v", result, got, want)
					}
				}
			})
		})
	}
}

func TestServingIsAnAnswerOfTheDaemonItself(t *testing.T) {
	answer := func(status int, flavor string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Metadata-Flavor", flavor)
			w.WriteHeader(status)
		}
	}
	for name, test := range map[string]struct {
		ready   error
		handler http.HandlerFunc
		want    string // in the error; none where empty
	}{
		"ready and answering": {nil, answer(http.StatusOK, "Google"), ""},
		"not ready":           {errors.New("no pods yet"), answer(http.StatusOK, "Google"), "no pods yet"},
		"another server":      {nil, answer(http.StatusOK, ""), "200 OK"},
		"an error":            {nil, answer(http.StatusServiceUnavailable, "Google"), "503"},
		"silence":             {nil, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.handler)
			defer server.Close()
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			err := serving(func() error { return test.ready }, server.Listener.Addr().String(), client)(t.Context())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestAStartupTaintHasToBeAKey(t *testing.T) {
	for taint, text := range map[string]string{"": "", testTaint: "", "not-ready": "", "key=value:NoSchedule": "give the key alone", "a/b/c": "give the key alone"} {
		s := federation()
		s.StartupTaint = taint
		err := s.Complete()
		if text == "" {
			if err != nil {
				t.Errorf("%q: %v", taint, err)
			}
			continue
		}
		flagError(t, err, "startup-taint", text)
	}
}
