package startuptaint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"gke-metadata-emulator/internal/backoff"
)

// nodeEditor is the part of the API server that stores nodes (core/v1).
type nodeEditor interface {
	Node(ctx context.Context, name string) (*corev1.Node, error)
	PatchNode(ctx context.Context, name string, patch []byte) error // a merge patch
}

const (
	// servingPeriod is the time between two checks of whether the daemon serves.
	// Only this process is asked, so pods need not wait for a longer one.
	servingPeriod = 200 * time.Millisecond
	// servingTimeout is the deadline of one check.
	servingTimeout = time.Second
	// nodePeriod is the time between two reads of the node, plus up to half of it at
	// random. A watch would need permission to read all nodes.
	nodePeriod = 20 * time.Second
)

// Options of [New]. All are required.
type Options struct {
	Key    string // of the taint, as in "gke-metadata-emulator/not-ready"
	Node   string // name of the node
	Client nodeEditor

	Ready   func() error // why the daemon is not ready; nil if it is
	Address string       // IP:PORT at which the daemon answers pods

	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Remover removes the taint from the node.
type Remover struct {
	key     string
	node    string
	client  nodeEditor
	serving func(context.Context) error // why the daemon does not serve; nil if it does
	results *prometheus.CounterVec
	log     *slog.Logger
}

// errNotServing means that the taint is on the node and must stay.
var errNotServing = errors.New("the daemon does not serve")

// New returns a remover that does nothing until [Remover.Run].
func New(o Options) *Remover {
	r := &Remover{key: o.Key, node: o.Node, client: o.Client, serving: serving(o.Ready, o.Address), log: o.Log, results: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_startup_taint_total",
		Help: "Attempts to remove the start-up taint from the node, by result: removed, or failed (it is retried).",
	}, []string{"result"})}
	o.Metrics.MustRegister(r.results)
	return r
}

// Run removes the taint each time it is found while the daemon serves. It returns nil
// when ctx ends.
func (r *Remover) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		_ = wait.PollUntilContextCancel(ctx, servingPeriod, false, func(ctx context.Context) (bool, error) {
			return r.serving(ctx) == nil, nil
		})
		var notServing bool
		backoff.Retry(ctx, func(ctx context.Context) error {
			err := r.remove(ctx)
			if notServing = errors.Is(err, errNotServing); notServing {
				return nil
			}
			return err
		})
		if notServing {
			continue
		}
		select {
		case <-time.After(wait.Jitter(nodePeriod, 0.5)):
		case <-ctx.Done():
		}
	}
	return nil
}

// remove removes the taint if it is on the node and the daemon serves. It counts and
// logs the result.
func (r *Remover) remove(ctx context.Context) error {
	removed, err := r.patchNode(ctx)
	switch {
	case errors.Is(err, errNotServing), errors.Is(err, context.Canceled):
	case err != nil:
		r.results.WithLabelValues("failed").Inc()
		r.log.Warn("cannot remove the start-up taint from the node; retrying", "taint", r.key, "node", r.node, "error", err)
	case removed:
		r.results.WithLabelValues("removed").Inc()
		r.log.Info("removed the start-up taint from the node", "taint", r.key, "node", r.node)
	}
	return err
}

func (r *Remover) patchNode(ctx context.Context) (removed bool, err error) {
	node, err := r.client.Node(ctx, r.node)
	if err != nil {
		return false, err
	}
	remaining := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(taint corev1.Taint) bool { return taint.Key == r.key })
	if len(remaining) == len(node.Spec.Taints) {
		return false, nil
	}
	if err := r.serving(ctx); err != nil {
		return false, errNotServing
	}
	// A merge patch replaces the whole list. The version makes the API server refuse
	// the patch if another program has changed the node since it was read.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion},
		"spec":     map[string]any{"taints": remaining},
	})
	if err != nil {
		return false, err
	}
	err = r.client.PatchNode(ctx, r.node, patch)
	return err == nil, err
}

// serving returns a check of whether pods are answered: the daemon is ready, and
// answers a request to its own address.
func serving(ready func() error, address string) func(context.Context) error {
	// Neither a proxy nor idle connections.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		if err := ready(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, servingTimeout)
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
