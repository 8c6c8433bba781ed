package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const nodeIP = "127.0.0.1"

// do makes a request of a helper, and fails the test if the request fails. Helpers work in a
// cleanup, too, in which the test's own context has ended.
func do[T any](t testing.TB, action string, request func(context.Context) (T, error)) T {
	t.Helper()
	const within = 2 * time.Minute
	ctx, cancel := context.WithTimeoutCause(context.Background(), within,
		fmt.Errorf("no answer from the API server within %s", within))
	defer cancel()
	result, err := request(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		t.Fatalf("%s: %v", action, err)
	}
	return result
}

// Namespace creates a namespace, with its KSA default, and returns its name. A
// name that ends in a dash gets a random suffix, for tests that share a cluster.
func (c *Cluster) Namespace(t testing.TB, name string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if name == "" || name[len(name)-1] == '-' {
		namespace.ObjectMeta = metav1.ObjectMeta{GenerateName: name}
	}
	name = do(t, "create namespace "+name, func(ctx context.Context) (*corev1.Namespace, error) {
		return c.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	}).Name
	c.KSA(t, name, "default", nil)
	return name
}

// Node creates a node that is ready, with address 127.0.0.1.
func (c *Cluster) Node(t testing.TB, name string, labels map[string]string) *corev1.Node {
	t.Helper()
	nodes := c.Client.CoreV1().Nodes()
	return do(t, "create node "+name, func(ctx context.Context) (*corev1.Node, error) {
		node, err := nodes.Create(ctx, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		}, metav1.CreateOptions{})
		if err != nil {
			return nil, err
		}
		node.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: nodeIP},
			{Type: corev1.NodeHostName, Address: name},
		}
		node.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
			LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
		}}
		return nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
	})
}

// KSA creates a Kubernetes service account.
func (c *Cluster) KSA(t testing.TB, namespace, name string, annotations map[string]string) *corev1.ServiceAccount {
	t.Helper()
	return do(t, "create KSA "+namespace+"/"+name, func(ctx context.Context) (*corev1.ServiceAccount, error) {
		return c.Client.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
		}, metav1.CreateOptions{})
	})
}

// Annotate sets an annotation of a KSA; an empty value removes it.
func (c *Cluster) Annotate(t testing.TB, namespace, ksa, key, value string) *corev1.ServiceAccount {
	t.Helper()
	var set any // null removes
	if value != "" {
		set = value
	}
	return do(t, "annotate KSA "+namespace+"/"+ksa, func(ctx context.Context) (*corev1.ServiceAccount, error) {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: set}}})
		if err != nil {
			return nil, err
		}
		return c.Client.CoreV1().ServiceAccounts(namespace).Patch(ctx, ksa, types.MergePatchType, patch, metav1.PatchOptions{})
	})
}

// DeleteKSA deletes a KSA. The API server refuses its tokens from then on,
// except for ten seconds those that it has just accepted.
func (c *Cluster) DeleteKSA(t testing.TB, namespace, name string) {
	t.Helper()
	do(t, "delete KSA "+namespace+"/"+name, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.Client.CoreV1().ServiceAccounts(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	})
}
