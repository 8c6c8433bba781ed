package identity

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

var serviceAccounts = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}

// watchRetention is how long the service accounts of a namespace stay watched after its
// last pod has left the node: CI namespaces fill and empty all day.
const watchRetention = 10 * time.Minute

// accountWatches watches the service accounts of the namespaces that have pods on this
// node: one watch for each namespace, of metadata only. A node of a large cluster must not
// store every service account.
type accountWatches struct {
	client   metadata.Interface
	onChange func()
	onError  func(error)
	now      func() time.Time
	running  sync.WaitGroup

	mu      sync.Mutex
	watches map[string]*accountWatch // by namespace; guarded by mu
}

type accountWatch struct {
	informer cache.SharedIndexInformer
	stop     context.CancelFunc
	// unusedSince is when the namespace's last pod left the node; zero while it has one.
	// It is guarded by the mutex of accountWatches.
	unusedSince time.Time
}

func newAccountWatches(client metadata.Interface, now func() time.Time, onChange func(), onError func(error)) *accountWatches {
	return &accountWatches{client: client, now: now, onChange: onChange, onError: onError, watches: map[string]*accountWatch{}}
}

// follow watches the namespaces in use, and ends the watches of namespaces that have been
// unused for [watchRetention]. All watches end with ctx.
func (a *accountWatches) follow(ctx context.Context, inUse []string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	used := make(map[string]bool, len(inUse))
	for _, ns := range inUse {
		used[ns] = true
		if w := a.watches[ns]; w != nil {
			w.unusedSince = time.Time{}
			continue
		}
		w, err := a.start(ctx, ns)
		if err != nil {
			return err
		}
		a.watches[ns] = w
	}
	for ns, w := range a.watches {
		switch {
		case used[ns]:
		case w.unusedSince.IsZero():
			w.unusedSince = a.now()
		case a.now().Sub(w.unusedSince) >= watchRetention:
			w.stop()
			delete(a.watches, ns)
		}
	}
	return nil
}

func (a *accountWatches) start(ctx context.Context, namespace string) (*accountWatch, error) {
	accounts := a.client.Resource(serviceAccounts).Namespace(namespace)
	// Not client-go's metadatainformer: it needs the informers of all API groups.
	informer := cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return accounts.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return accounts.Watch(ctx, o)
		},
	}, a.client), &metav1.PartialObjectMetadata{}, 0, cache.Indexers{})
	if err := informer.SetTransform(parseAccount); err != nil {
		return nil, fmt.Errorf("service account watch: %w", err)
	}
	if err := observe(informer, a.onChange, a.onError); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	a.running.Go(func() { informer.RunWithContext(ctx) })
	// The list of an empty namespace raises no event.
	a.running.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			a.onChange()
		}
	})
	return &accountWatch{informer: informer, stop: stop}, nil
}

// wait waits for the end of all watches, after the context of follow has ended.
func (a *accountWatches) wait() { a.running.Wait() }

func (a *accountWatches) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.watches)
}

// synced reports whether the service accounts of a namespace are known.
func (a *accountWatches) synced(namespace string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.watches[namespace]
	return w != nil && w.informer.HasSynced()
}

// account is a service account as the watches keep it. Its annotations are parsed once
// for each change, not for each connection.
type account struct {
	metav1.ObjectMeta          // namespace, name, UID and resource version only
	workload          Workload // without the pod
	err               error    // of the annotations
}

// parseAccount is the transform of the watches. It drops all fields that nothing here
// reads.
func parseAccount(o any) (any, error) {
	metadata, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return o, nil // a tombstone, or parsed already
	}
	parsed := &account{
		ObjectMeta: metav1.ObjectMeta{Namespace: metadata.Namespace, Name: metadata.Name, UID: metadata.UID, ResourceVersion: metadata.ResourceVersion},
		workload:   Workload{KSA: ServiceAccount{Namespace: metadata.Namespace, Name: metadata.Name, UID: string(metadata.UID)}},
	}
	parsed.err = parsed.workload.parseAnnotations(metadata.Annotations)
	return parsed, nil
}

// get returns a service account. For an account that the watch has not
// announced it returns an error of the reason [NotReady], never nil.
func (a *accountWatches) get(namespace, name string) (*account, error) {
	a.mu.Lock()
	w := a.watches[namespace]
	a.mu.Unlock()
	if w == nil || !w.informer.HasSynced() {
		return nil, errorf(NotReady, "the service accounts of namespace %s have not been read from the API server yet: retry", namespace)
	}
	o, found, err := w.informer.GetStore().GetByKey(namespace + "/" + name)
	if err != nil {
		return nil, &Error{Reason: NotReady, Message: fmt.Sprintf("service account %s/%s", namespace, name), Err: err}
	}
	if !found {
		return nil, errorf(NotReady, "service account %s/%s does not exist (yet): kubectl create serviceaccount --namespace %s %s", namespace, name, namespace, name)
	}
	return o.(*account), nil
}
