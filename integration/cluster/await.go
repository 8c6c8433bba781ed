package cluster

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
)

// watcher is the typed client of one kind in one namespace.
type watcher interface {
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// Await watches an object until condition returns no error. The last error of condition is
// part of Await's error if ctx ends first.
func Await[T metav1.Object](ctx context.Context, client watcher, name string, wanted func(T) error) error {
	missing := errors.New("it does not exist")
	for {
		done, err := await(ctx, client, name, func(object any) bool {
			missing = errors.New("it does not exist")
			if present, ok := object.(T); ok {
				missing = wanted(present)
			}
			return missing == nil
		})
		if done {
			return nil
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			var zero T
			return fmt.Errorf("wait for %T %s: %w: %w", zero, name, err, missing)
		}
	}
}

// await watches once. It returns false and no error when the API server
// has ended the watch, as it does with each after some minutes.
func await(ctx context.Context, client watcher, name string, wanted func(any) bool) (bool, error) {
	options := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
	// Without a resource version to start from, the watch begins with existing objects, as if
	// they were added now.
	w, err := client.Watch(ctx, options)
	if err != nil {
		return false, err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		switch event.Type {
		case watch.Error:
			return false, nil
		case watch.Deleted:
			wanted(nil)
		default:
			if wanted(event.Object) {
				return true, nil
			}
		}
	}
	return false, nil
}

// AwaitReady returns when the node's kubelet reports that it is ready.
func (n *Node) AwaitReady(ctx context.Context) error {
	err := Await(ctx, n.cluster.Client.CoreV1().Nodes(), n.Name, func(node *corev1.Node) error {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				if condition.Status == corev1.ConditionTrue {
					return nil
				}
				return errors.New(condition.Message)
			}
		}
		return errors.New("the kubelet has not reported anything yet")
	})
	return errors.Join(err, n.crashed())
}

// Available is for [Await]: all that a Deployment wants is there.
func Available(d *appsv1.Deployment) error {
	if d.Status.ObservedGeneration < d.Generation || d.Spec.Replicas == nil || d.Status.AvailableReplicas < *d.Spec.Replicas {
		return fmt.Errorf("%d replicas are available", d.Status.AvailableReplicas)
	}
	return nil
}
