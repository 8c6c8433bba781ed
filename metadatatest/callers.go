package metadatatest

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/change"
)

// callers is a list of identities whose links can change.
type callers struct {
	*identity.Static
	changed change.Signal

	mu    sync.Mutex
	links map[string]string // GSA by KSA
	// generation is a part of each KSA's UID, so that a change makes every cached
	// token that of another KSA.
	generation int
}

func newCallers(identities []map[string]string) (*callers, error) {
	identities = append(identities, map[string]string{"namespace": "default", "serviceAccount": "default"})
	document, err := yaml.Marshal(map[string]any{"identities": identities})
	if err != nil {
		return nil, err
	}
	list, err := identity.ParseStatic(document)
	return &callers{Static: list, links: map[string]string{}}, err
}

// Workload adds the link to the identity in the list.
func (c *callers) Workload(ctx context.Context, pod identity.Pod) (identity.Workload, error) {
	w, err := c.Static.Workload(ctx, pod)
	c.mu.Lock()
	defer c.mu.Unlock()
	w.GSA = c.links[w.KSA.Namespace+"/"+w.KSA.Name]
	w.KSA.UID += "-" + strconv.Itoa(c.generation)
	return w, err
}

// Changed returns a channel that is closed when a link changes.
func (c *callers) Changed() <-chan struct{} { return c.changed.Next() }

func (c *callers) change(apply func(links map[string]string)) {
	c.mu.Lock()
	apply(c.links)
	c.generation++
	c.mu.Unlock()
	c.changed.Raise()
}

func splitKSA(ksa string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(ksa, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", ksaError(ksa)
	}
	return namespace, name, nil
}
