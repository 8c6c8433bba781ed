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

// callers is a list of identities whose links may change.
type callers struct {
	*identity.Static
	changed change.Signal

	mu    sync.Mutex
	links map[string]string // GSA by KSA
	age   int               // each change makes another service account of a KSA: nothing cached is its
}

func newCallers(rows []map[string]string) (*callers, error) {
	rows = append(rows, map[string]string{"namespace": "default", "serviceAccount": "default"})
	document, err := yaml.Marshal(map[string]any{"identities": rows})
	if err != nil {
		return nil, err
	}
	list, err := identity.ParseStatic(document)
	return &callers{Static: list, links: map[string]string{}}, err
}

// Workload adds the link to what the list says.
func (c *callers) Workload(ctx context.Context, pod identity.Pod) (identity.Workload, error) {
	w, err := c.Static.Workload(ctx, pod)
	c.mu.Lock()
	defer c.mu.Unlock()
	w.GSA = c.links[w.KSA.Namespace+"/"+w.KSA.Name]
	w.KSA.UID += "-" + strconv.Itoa(c.age)
	return w, err
}

// Changed is closed when links are others.
func (c *callers) Changed() <-chan struct{} { return c.changed.Next() }

func (c *callers) change(how func(links map[string]string)) {
	c.mu.Lock()
	how(c.links)
	c.age++
	c.mu.Unlock()
	c.changed.Raise()
}

func split(ksa string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(ksa, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", wrongKSA(ksa)
	}
	return namespace, name, nil
}
