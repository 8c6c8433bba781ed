package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/wait"
)

// nodeEditor is the API server, which keeps nodes (core/v1).
type nodeEditor interface {
	Node(ctx context.Context, name string) (*corev1.Node, error)
	PatchNode(ctx context.Context, name string, patch []byte) error // a merge patch
}

// startupTaint keeps pods off the node until the daemon serves. It is there when the
// node joins the cluster, and again when the node joins anew.
type startupTaint struct {
	key     string
	client  nodeEditor
	node    string
	serves  func(context.Context) error
	results *prometheus.CounterVec
	log     *slog.Logger
}

// errNotServing says that the taint is where it has to be.
var errNotServing = errors.New("the daemon does not serve")

func newStartupTaint(key string, client nodeEditor, node string, serves func(context.Context) error, registry prometheus.Registerer, log *slog.Logger) *startupTaint {
	t := &startupTaint{key: key, client: client, node: node, serves: serves, log: log, results: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_startup_taint_total",
		Help: "Attempts to take the start-up taint off the node, by result: removed, or failed (it is tried again).",
	}, []string{"result"})}
	registry.MustRegister(t.results)
	return t
}

// run removes the taint once the daemon serves, and whenever it is there again.
func (t *startupTaint) run(ctx context.Context) error {
	for ctx.Err() == nil {
		// Serving is a question to this process: it is asked often so that no pod
		// waits for the back-off.
		_ = wait.PollUntilContextCancel(ctx, 200*time.Millisecond, false, func(ctx context.Context) (bool, error) {
			return t.serves(ctx) == nil, nil
		})
		var pausing bool
		_ = retry(ctx, func(ctx context.Context) error {
			err := t.remove(ctx)
			if pausing = errors.Is(err, errNotServing); pausing {
				return nil
			}
			return err
		})
		if pausing {
			continue
		}
		// A watch would need the right to read all nodes at once.
		select {
		case <-time.After(wait.Jitter(20*time.Second, 0.5)):
		case <-ctx.Done():
		}
	}
	return nil
}

// remove takes the taint off the node, if it is there and the daemon serves.
func (t *startupTaint) remove(ctx context.Context) error {
	removed, err := t.try(ctx)
	switch {
	case errors.Is(err, errNotServing), errors.Is(err, context.Canceled):
	case err != nil:
		t.results.WithLabelValues("failed").Inc()
		t.log.Warn("the start-up taint could not be removed from the node, it is tried again", "taint", t.key, "node", t.node, "error", err)
	case removed:
		t.results.WithLabelValues("removed").Inc()
		t.log.Info("the start-up taint is removed from the node", "taint", t.key, "node", t.node)
	}
	return err
}

func (t *startupTaint) try(ctx context.Context) (removed bool, err error) {
	node, err := t.client.Node(ctx, t.node)
	if err != nil {
		return false, err
	}
	kept := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(taint corev1.Taint) bool { return taint.Key == t.key })
	if len(kept) == len(node.Spec.Taints) {
		return false, nil
	}
	if err := t.serves(ctx); err != nil {
		return false, errNotServing
	}
	// The list is replaced as a whole: the version has it fail where somebody else
	// has changed it since.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion},
		"spec":     map[string]any{"taints": kept},
	})
	if err != nil {
		return false, err
	}
	err = t.client.PatchNode(ctx, t.node, patch)
	return err == nil, err
}

// serving says whether pods are answered: the daemon is ready, and a request to its
// own address is answered by it.
func serving(ready func() error, address string, client *http.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := ready(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK || response.Header.Get("Metadata-Flavor") != "Google" {
			return fmt.Errorf("%s answers %s", address, response.Status)
		}
		return nil
	}
}

// checkStartupTaint returns a [*FlagError] for a taint that no node can have.
func (s *Serve) checkStartupTaint() error {
	if s.StartupTaint == "" {
		return nil
	}
	if problems := validation.IsQualifiedName(s.StartupTaint); len(problems) > 0 {
		return wrong("startup-taint", "give the key alone, like gke-metadata-emulator/not-ready", "%q is not the key of a taint: %s", s.StartupTaint, strings.Join(problems, ", "))
	}
	return nil
}

// removeStartupTaint runs in the group, if there is a taint to remove.
func (s *Serve) removeStartupTaint(g group, client nodeEditor, address string, ready func() error, registry prometheus.Registerer, log *slog.Logger) {
	if s.StartupTaint == "" {
		return
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy, no idle connection
	t := newStartupTaint(s.StartupTaint, client, s.NodeName, serving(ready, address, &http.Client{Transport: transport}), registry, log)
	g.Go(func() error { return t.run(g.ctx) })
}
