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

// lingering is how long the service accounts of a namespace stay watched after
// the last pod that used one has left: CI namespaces fill and empty all day.
const lingering = 10 * time.Minute

// accountWatches is the service accounts of the namespaces that have pods here:
// one watch a namespace, of metadata only. A node of a large cluster must not
// hold every service account there is.
type accountWatches struct {
	client  metadata.Interface
	changed func()
	failed  func(error)
	now     func() time.Time

	mu      sync.Mutex
	watches map[string]*accountWatch
	running sync.WaitGroup
}

type accountWatch struct {
	informer cache.SharedIndexInformer
	stop     context.CancelFunc
	unused   time.Time // since when no pod here is in the namespace; zero while one is
}

func newAccountWatches(client metadata.Interface, now func() time.Time, changed func(), failed func(error)) *accountWatches {
	return &accountWatches{client: client, now: now, changed: changed, failed: failed, watches: map[string]*accountWatch{}}
}

// follow watches the namespaces in use and stops what has not been used for long.
// The watches end with ctx.
func (a *accountWatches) follow(ctx context.Context, inUse []string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	used := make(map[string]bool, len(inUse))
	for _, ns := range inUse {
		used[ns] = true
		if w := a.watches[ns]; w != nil {
			w.unused = time.Time{}
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
		case w.unused.IsZero():
			w.unused = a.now()
		case a.now().Sub(w.unused) >= lingering:
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
	if err := informer.SetTransform(slimAccount); err != nil {
		return nil, fmt.Errorf("service account watch: %w", err)
	}
	if err := observe(informer, a.changed, a.failed); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	a.running.Go(func() { informer.RunWithContext(ctx) })
	// An empty namespace has no event to tell that its list has come.
	a.running.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			a.changed()
		}
	})
	return &accountWatch{informer: informer, stop: stop}, nil
}

// wait returns when every watch has ended, after the context of follow has.
func (a *accountWatches) wait() { a.running.Wait() }

func (a *accountWatches) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.watches)
}

// synced says whether the service accounts of a namespace are known.
func (a *accountWatches) synced(namespace string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.watches[namespace]
	return w != nil && w.informer.HasSynced()
}

// get returns the metadata of a service account. An account that the watch has
// not announced is an error that the next event may resolve, never a nil.
func (a *accountWatches) get(namespace, name string) (*metav1.PartialObjectMetadata, error) {
	a.mu.Lock()
	w := a.watches[namespace]
	a.mu.Unlock()
	if w == nil || !w.informer.HasSynced() {
		return nil, failf(NotReady, "the service accounts of namespace %s have not been read from the API server yet: ask again", namespace)
	}
	o, found, err := w.informer.GetStore().GetByKey(namespace + "/" + name)
	if err != nil {
		return nil, &Error{Reason: NotReady, Message: fmt.Sprintf("service account %s/%s", namespace, name), Err: err}
	}
	if !found {
		return nil, failf(NotReady, "service account %s/%s does not exist (yet): kubectl create serviceaccount --namespace %s %s", namespace, name, namespace, name)
	}
	return o.(*metav1.PartialObjectMetadata), nil
}

// slimAccount keeps the annotations that GKE honours.
func slimAccount(o any) (any, error) {
	account, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return o, nil // a tombstone
	}
	slim := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: account.Namespace, Name: account.Name, UID: account.UID, ResourceVersion: account.ResourceVersion,
	}}
	for _, key := range []string{AnnotationGSA, AnnotationDelegates, AnnotationQuotaProject, AnnotationPrincipalEmail} {
		if value, ok := account.Annotations[key]; ok {
			metav1.SetMetaDataAnnotation(&slim.ObjectMeta, key, value)
		}
	}
	return slim, nil
}
