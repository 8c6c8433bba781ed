package apiserver

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// fakeServer is an API server with one answer, which records the last request. It
// knows all kinds of objects, as the API server does.
type fakeServer struct {
	answer  runtime.Object
	request *http.Request
	body    []byte
}

// client serves until the test ends, and returns a client.
func (s *fakeServer) client(t *testing.T) *Client {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	c, err := New(&rest.Config{Host: server.URL}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.request = r
	s.body, _ = io.ReadAll(r.Body)
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), protobuf)
	w.Header().Set("Content-Type", protobuf)
	if status, ok := s.answer.(*metav1.Status); ok {
		w.WriteHeader(int(status.Code))
	}
	if err := scheme.Codecs.EncoderForVersion(info.Serializer, schema.GroupVersions{corev1.SchemeGroupVersion, authenticationv1.SchemeGroupVersion}).Encode(s.answer, w); err != nil {
		panic(err)
	}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "uid", ResourceVersion: "7"}
}

// object converts the results of a call to the interface of all objects.
func object[O metav1.Object](o O, err error) (metav1.Object, error) { return o, err }

func TestClient_SendsRequestInProtobuf(t *testing.T) {
	var (
		m     = &corev1.ConfigMap{ObjectMeta: meta("kube-system", "coredns"), Data: map[string]string{"Corefile": "."}}
		event = &corev1.Event{ObjectMeta: meta("shop", "cart.1"), Message: "so"}
		patch = []byte(`{"count":2}`)
		token = &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"aud"}}}
	)
	for name, test := range map[string]struct {
		answer runtime.Object
		call   func(context.Context, *Client) (metav1.Object, error)
		want   string
		sent   string // the media type of the body
	}{
		"pod": {&corev1.Pod{ObjectMeta: meta("shop", "cart")}, func(ctx context.Context, c *Client) (metav1.Object, error) { return object(c.Pod(ctx, "shop", "cart")) },
			"GET /api/v1/namespaces/shop/pods/cart", ""},
		"token": {&authenticationv1.TokenRequest{ObjectMeta: meta("shop", "cart")}, func(ctx context.Context, c *Client) (metav1.Object, error) {
			return object(c.RequestToken(ctx, "shop", "cart", token))
		}, "POST /api/v1/namespaces/shop/serviceaccounts/cart/token", protobuf},
		"namespace": {&corev1.Namespace{ObjectMeta: meta("", "kube-system")}, func(ctx context.Context, c *Client) (metav1.Object, error) {
			return object(c.Namespace(ctx, "kube-system"))
		}, "GET /api/v1/namespaces/kube-system", ""},
		"node": {&corev1.Node{ObjectMeta: meta("", "node-1")}, func(ctx context.Context, c *Client) (metav1.Object, error) { return object(c.Node(ctx, "node-1")) },
			"GET /api/v1/nodes/node-1", ""},
		"patch of a node": {&corev1.Node{}, func(ctx context.Context, c *Client) (metav1.Object, error) {
			return nil, c.PatchNode(ctx, "node-1", patch)
		}, "PATCH /api/v1/nodes/node-1", "application/merge-patch+json"},
		"new event": {event, func(ctx context.Context, c *Client) (metav1.Object, error) { return object(c.CreateEvent(ctx, event)) },
			"POST /api/v1/namespaces/shop/events", protobuf},
		"event": {event, func(ctx context.Context, c *Client) (metav1.Object, error) { return object(c.UpdateEvent(ctx, event)) },
			"PUT /api/v1/namespaces/shop/events/cart.1", protobuf},
		"patch of an event": {event, func(ctx context.Context, c *Client) (metav1.Object, error) {
			return object(c.PatchEvent(ctx, event, patch))
		}, "PATCH /api/v1/namespaces/shop/events/cart.1", "application/strategic-merge-patch+json"},
		"ConfigMap": {m, func(ctx context.Context, c *Client) (metav1.Object, error) {
			return object(c.ConfigMap(ctx, "kube-system", "coredns"))
		}, "GET /api/v1/namespaces/kube-system/configmaps/coredns", ""},
		"new ConfigMap": {m, func(ctx context.Context, c *Client) (metav1.Object, error) { return nil, c.CreateConfigMap(ctx, m) },
			"POST /api/v1/namespaces/kube-system/configmaps", protobuf},
		"change of a ConfigMap": {m, func(ctx context.Context, c *Client) (metav1.Object, error) { return nil, c.UpdateConfigMap(ctx, m) },
			"PUT /api/v1/namespaces/kube-system/configmaps/coredns", protobuf},
		"deletion of a ConfigMap": {&metav1.Status{Code: http.StatusOK}, func(ctx context.Context, c *Client) (metav1.Object, error) { return nil, c.DeleteConfigMap(ctx, m) },
			"DELETE /api/v1/namespaces/kube-system/configmaps/coredns", protobuf},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fakeServer{answer: test.answer}
			got, err := test.call(t.Context(), s.client(t))
			if err != nil {
				t.Fatal(err)
			}
			if got := s.request.Method + " " + s.request.URL.String(); got != test.want {
				t.Errorf("request %s, want %s", got, test.want)
			}
			if accepted := s.request.Header.Get("Accept"); accepted != protobuf+",application/json" {
				t.Errorf("the header Accept is %s", accepted)
			}
			if sent := s.request.Header.Get("Content-Type"); sent != test.sent {
				t.Errorf("the media type of the body is %q, want %q", sent, test.sent)
			}
			if want, _ := test.answer.(metav1.Object); got != nil && (got.GetName() != want.GetName() || got.GetUID() != "uid") {
				t.Errorf("the call returns %s with the UID %s, want %s", got.GetName(), got.GetUID(), want.GetName())
			}
		})
	}
}

// An object of another version has been changed by another client.
func TestClient_DeletesConfigMapOfSameVersionOnly(t *testing.T) {
	s := &fakeServer{answer: &metav1.Status{Code: http.StatusOK}}
	if err := s.client(t).DeleteConfigMap(t.Context(), &corev1.ConfigMap{ObjectMeta: meta("kube-system", "coredns")}); err != nil {
		t.Fatal(err)
	}
	sent, _, err := scheme.Codecs.UniversalDeserializer().Decode(s.body, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	preconditions := sent.(*metav1.DeleteOptions).Preconditions
	if preconditions == nil || *preconditions.UID != "uid" || *preconditions.ResourceVersion != "7" {
		t.Errorf("preconditions %v, want the UID and the version", preconditions)
	}
}

func TestClient_WatchPodsListsPodsOfNode(t *testing.T) {
	s := &fakeServer{answer: &corev1.PodList{Items: []corev1.Pod{{ObjectMeta: meta("shop", "cart")}}}}
	listed, err := cache.ToListerWithContext(s.client(t).WatchPods("node-1")).ListWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.request.URL.String(); got != "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1&resourceVersion=0" {
		t.Errorf("request for %s", got)
	}
	if pods := listed.(*corev1.PodList).Items; len(pods) != 1 || pods[0].Name != "cart" {
		t.Errorf("pods %v", pods)
	}
}

func TestClient_ReturnsAPIServersError(t *testing.T) {
	gone := apierrors.NewNotFound(corev1.Resource("pods"), "cart").Status()
	_, err := (&fakeServer{answer: &gone}).client(t).Pod(t.Context(), "shop", "cart")
	if !apierrors.IsNotFound(err) || err.Error() != `pods "cart" not found` {
		t.Errorf("error %v, want the API server's not found", err)
	}
}

func TestClient_ReadsDocumentUnchanged(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = io.WriteString(w, r.URL.Path+" as "+r.Header.Get("Accept"))
	}))
	defer server.Close()
	c, err := New(&rest.Config{Host: server.URL}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Document(t.Context(), "/openid/v1/jwks")
	if err != nil || string(got) != "/openid/v1/jwks as */*" {
		t.Errorf("%s, %v", got, err)
	}
}
