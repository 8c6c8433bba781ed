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

// store is an API server that gives one answer, and notes the last request. It knows
// all kinds of objects, as the API server does.
type store struct {
	answer  runtime.Object
	request *http.Request
	body    []byte
}

// serving is a client of the store.
func (s *store) serving(t *testing.T) *Client {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	c, err := New(&rest.Config{Host: server.URL}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.request = r
	s.body, _ = io.ReadAll(r.Body)
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), protobuf)
	w.Header().Set("Content-Type", protobuf)
	if status, failed := s.answer.(*metav1.Status); failed {
		w.WriteHeader(int(status.Code))
	}
	if err := scheme.Codecs.EncoderForVersion(info.Serializer, schema.GroupVersions{corev1.SchemeGroupVersion, authenticationv1.SchemeGroupVersion}).Encode(s.answer, w); err != nil {
		panic(err)
	}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "uid", ResourceVersion: "7"}
}

// object drops what a call returns beside its error, for which it is asked here.
func object[O metav1.Object](o O, err error) (metav1.Object, error) { return o, err }

func TestEachCallIsOneRequestInProtobuf(t *testing.T) {
	var (
		m     = &corev1.ConfigMap{ObjectMeta: meta("kube-system", "coredns"), Data: map[string]string{"Corefile": "."}}
		event = &corev1.Event{ObjectMeta: meta("shop", "cart.1"), Message: "so"}
		patch = []byte(`{"count":2}`)
		ask   = &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"aud"}}}
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
			return object(c.RequestToken(ctx, "shop", "cart", ask))
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
			s := &store{answer: test.answer}
			got, err := test.call(t.Context(), s.serving(t))
			if err != nil {
				t.Fatal(err)
			}
			if asked := s.request.Method + " " + s.request.URL.String(); asked != test.want {
				t.Errorf("asked for %s, want %s", asked, test.want)
			}
			if accepted := s.request.Header.Get("Accept"); accepted != protobuf+",application/json" {
				t.Errorf("accepted is %s", accepted)
			}
			if sent := s.request.Header.Get("Content-Type"); sent != test.sent {
				t.Errorf("sent as %q, want %q", sent, test.sent)
			}
			if want, _ := test.answer.(metav1.Object); got != nil && (got.GetName() != want.GetName() || got.GetUID() != "uid") {
				t.Errorf("%s with the UID %s, want %s", got.GetName(), got.GetUID(), want.GetName())
			}
		})
	}
}

// Of another version it is somebody else's.
func TestAConfigMapIsDeletedInTheVersionThatWasRead(t *testing.T) {
	s := &store{answer: &metav1.Status{Code: http.StatusOK}}
	if err := s.serving(t).DeleteConfigMap(t.Context(), &corev1.ConfigMap{ObjectMeta: meta("kube-system", "coredns")}); err != nil {
		t.Fatal(err)
	}
	sent, _, err := scheme.Codecs.UniversalDeserializer().Decode(s.body, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	only := sent.(*metav1.DeleteOptions).Preconditions
	if only == nil || *only.UID != "uid" || *only.ResourceVersion != "7" {
		t.Errorf("preconditions %v", only)
	}
}

func TestPodsAreThoseOfTheNode(t *testing.T) {
	s := &store{answer: &corev1.PodList{Items: []corev1.Pod{{ObjectMeta: meta("shop", "cart")}}}}
	listed, err := cache.ToListerWithContext(s.serving(t).PodsOf("node-1")).ListWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	if asked := s.request.URL.String(); asked != "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1&resourceVersion=0" {
		t.Errorf("asked for %s", asked)
	}
	if pods := listed.(*corev1.PodList).Items; len(pods) != 1 || pods[0].Name != "cart" {
		t.Errorf("pods %v", pods)
	}
}

func TestAnErrorIsWhatTheAPIServerSays(t *testing.T) {
	gone := apierrors.NewNotFound(corev1.Resource("pods"), "cart").Status()
	_, err := (&store{answer: &gone}).serving(t).Pod(t.Context(), "shop", "cart")
	if !apierrors.IsNotFound(err) || err.Error() != `pods "cart" not found` {
		t.Errorf("%v", err)
	}
}

func TestADocumentComesAsItIs(t *testing.T) {
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
