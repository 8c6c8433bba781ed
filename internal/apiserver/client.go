package apiserver

import (
	"context"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const protobuf = "application/vnd.kubernetes.protobuf"

// Client reads and writes objects of the group core/v1, in protobuf. Its errors are
// those of client-go, for example [k8s.io/apimachinery/pkg/api/errors.StatusError].
type Client struct {
	rest *rest.RESTClient
}

// New returns a client with its own rate limit: the QPS and the Burst of config. It
// uses the connections of the HTTP client.
func New(config *rest.Config, http *http.Client) (*Client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, authenticationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion = "/api", &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = rest.CodecFactoryForGeneratedClient(scheme, serializer.NewCodecFactory(scheme)).WithoutConversion()
	config.ContentType, config.AcceptContentTypes = protobuf, protobuf+",application/json"
	client, err := rest.RESTClientForConfigAndClient(config, http)
	if err != nil {
		return nil, err
	}
	return &Client{client}, nil
}

// into sends a request and decodes the answer. With an error the returned object is
// empty, not nil.
func into[T any, O interface {
	*T
	runtime.Object
}](ctx context.Context, request *rest.Request) (O, error) {
	answer := O(new(T))
	return answer, request.Do(ctx).Into(answer)
}

// Pod reads a pod from the store, not from the API server's cache.
func (c *Client) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return into[corev1.Pod](ctx, c.rest.Get().Namespace(namespace).Resource("pods").Name(name))
}

// WatchPods returns a list and watch of the pods of a node, which the API server selects.
func (c *Client) WatchPods(node string) cache.ListerWatcher {
	return cache.NewListWatchFromClient(c.rest, "pods", metav1.NamespaceAll, fields.OneTermEqualSelector("spec.nodeName", node))
}

// RequestToken requests a token of a service account (TokenRequest, a subresource of
// serviceaccounts).
func (c *Client) RequestToken(ctx context.Context, namespace, account string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	return into[authenticationv1.TokenRequest](ctx, c.rest.Post().Namespace(namespace).Resource("serviceaccounts").Name(account).SubResource("token").Body(request))
}

// Namespace reads a namespace.
func (c *Client) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return into[corev1.Namespace](ctx, c.rest.Get().Resource("namespaces").Name(name))
}

// Node reads a node.
func (c *Client) Node(ctx context.Context, name string) (*corev1.Node, error) {
	return into[corev1.Node](ctx, c.rest.Get().Resource("nodes").Name(name))
}

// PatchNode changes a node by a merge patch (RFC 7386).
func (c *Client) PatchNode(ctx context.Context, name string, patch []byte) error {
	return c.rest.Patch(types.MergePatchType).Resource("nodes").Name(name).Body(patch).Do(ctx).Error()
}

// CreateEvent writes an event.
func (c *Client) CreateEvent(ctx context.Context, event *corev1.Event) (*corev1.Event, error) {
	return into[corev1.Event](ctx, c.rest.Post().Namespace(event.Namespace).Resource("events").Body(event))
}

// UpdateEvent replaces an event.
func (c *Client) UpdateEvent(ctx context.Context, event *corev1.Event) (*corev1.Event, error) {
	return into[corev1.Event](ctx, c.rest.Put().Namespace(event.Namespace).Resource("events").Name(event.Name).Body(event))
}

// PatchEvent changes an event by a strategic merge patch.
func (c *Client) PatchEvent(ctx context.Context, event *corev1.Event, patch []byte) (*corev1.Event, error) {
	return into[corev1.Event](ctx, c.rest.Patch(types.StrategicMergePatchType).Namespace(event.Namespace).Resource("events").Name(event.Name).Body(patch))
}

// ConfigMap reads a ConfigMap.
func (c *Client) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return into[corev1.ConfigMap](ctx, c.rest.Get().Namespace(namespace).Resource("configmaps").Name(name))
}

// CreateConfigMap writes a new ConfigMap.
func (c *Client) CreateConfigMap(ctx context.Context, m *corev1.ConfigMap) error {
	return c.rest.Post().Namespace(m.Namespace).Resource("configmaps").Body(m).Do(ctx).Error()
}

// UpdateConfigMap replaces a ConfigMap if it still has the resource version of m.
func (c *Client) UpdateConfigMap(ctx context.Context, m *corev1.ConfigMap) error {
	return c.rest.Put().Namespace(m.Namespace).Resource("configmaps").Name(m.Name).Body(m).Do(ctx).Error()
}

// DeleteConfigMap deletes a ConfigMap if it still has the UID and the resource version
// of m.
func (c *Client) DeleteConfigMap(ctx context.Context, m *corev1.ConfigMap) error {
	options := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &m.UID, ResourceVersion: &m.ResourceVersion}}
	return c.rest.Delete().Namespace(m.Namespace).Resource("configmaps").Name(m.Name).Body(options).Do(ctx).Error()
}

// Document reads a document that the API server publishes at a path, unchanged: such
// documents have their own media types, and none is protobuf.
func (c *Client) Document(ctx context.Context, path string) ([]byte, error) {
	return c.rest.Get().AbsPath(path).SetHeader("Accept", "*/*").DoRaw(ctx)
}
