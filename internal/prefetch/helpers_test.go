package prefetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/change"
	"gke-metadata-emulator/tokens"
)

// node is a node's pods, and a source of tokens.
type node struct {
	change.Signal
	mu       sync.Mutex
	pods     []identity.Workload
	notReady error                // the reason why not all pods are known
	lastUse  map[string]time.Time // by GSA
	duration time.Duration        // of a mint
	failure  func(gsa string) error

	requested    []string // GSAs
	requestTimes []time.Time
	running      int // mints
	maxRunning   int
}

func (n *node) Changed() <-chan struct{} { return n.Next() }

func (n *node) Workloads() []identity.Workload {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.pods)
}

func (n *node) Ready() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notReady
}

func (n *node) LastUse(w identity.Workload, s tokens.Scopes) time.Time {
	if !slices.Equal(s, tokens.DefaultScopes()) {
		return time.Time{}
	}
	return n.lastUse[w.GSA]
}

func (n *node) set(pods ...identity.Workload) {
	n.mu.Lock()
	n.pods = pods
	n.mu.Unlock()
	n.Raise()
}

func (n *node) AccessToken(ctx context.Context, w identity.Workload, s tokens.Scopes) (tokens.Token, error) {
	n.mu.Lock()
	n.requested, n.requestTimes = append(n.requested, w.GSA), append(n.requestTimes, time.Now())
	n.running++
	n.maxRunning = max(n.maxRunning, n.running)
	failure := n.failure
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.running--
		n.mu.Unlock()
	}()
	select {
	case <-time.After(n.duration):
	case <-ctx.Done():
		return tokens.Token{}, ctx.Err()
	}
	if !slices.Equal(s, tokens.DefaultScopes()) {
		return tokens.Token{}, fmt.Errorf("scopes %v", s)
	}
	if failure != nil {
		return tokens.Token{}, failure(w.GSA)
	}
	return tokens.NewToken("ya29.x", time.Now().Add(time.Hour)), nil
}

func (n *node) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, errors.New("the audience is not known")
}

func (n *node) requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.requested)
}

func linked(pod, gsa string) identity.Workload {
	return identity.Workload{Pod: identity.Pod{Namespace: "shop", Name: pod, UID: pod}, KSA: identity.ServiceAccount{Namespace: "shop", Name: "app", UID: "ksa"}, GSA: gsa}
}

func run(t *testing.T, n *node) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	p := New(Options{Identity: n, Tokens: n, Usage: n, Scopes: []tokens.Scopes{tokens.DefaultScopes()}})
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

// source is a source of access tokens alone. The function gets each request, and returns
// its error.
type source func(identity.Workload, tokens.Scopes) error

func (f source) AccessToken(_ context.Context, w identity.Workload, s tokens.Scopes) (tokens.Token, error) {
	return tokens.NewToken("ya29.x", time.Now().Add(time.Hour)), f(w, s)
}

func (source) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, errors.New("the audience is not known")
}
