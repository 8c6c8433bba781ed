package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"gke-metadata-emulator/integration/cluster"
)

const podWithin = 3 * time.Minute // far more than on idle cores

// answer is the client's report about the metadata server.
type answer struct {
	Email   string        `json:"email"`
	Token   string        `json:"token"`
	Started time.Time     `json:"started"` // the program
	Took    time.Duration `json:"took"`    // from then to the token
	Again   int           `json:"again"`
	Failed  string        `json:"failed"`
}

// podSpec runs the client. On no node in particular if node is empty.
func podSpec(ksa, node, mode string) corev1.PodSpec {
	restart, probe := corev1.RestartPolicyNever, (*corev1.Probe)(nil)
	if mode == "serve" {
		restart = corev1.RestartPolicyAlways
		probe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/first", Port: intstr.FromInt32(8080)},
		}}
	}
	spec := corev1.PodSpec{
		ServiceAccountName:            ksa,
		RestartPolicy:                 restart,
		TerminationGracePeriodSeconds: new(int64),
		Containers: []corev1.Container{{
			Name: "client", Image: clientImage, ImagePullPolicy: corev1.PullNever, Args: []string{mode}, ReadinessProbe: probe,
		}},
	}
	if node != "" {
		spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	}
	return spec
}

func (e *environment) pod(namespace, name string, spec corev1.PodSpec) {
	e.t.Helper()
	if err := e.create(namespace, name, spec); err != nil {
		e.t.Fatal(err)
	}
}

func (e *environment) create(namespace, name string, spec corev1.PodSpec) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	_, err := e.Cluster.Client.CoreV1().Pods(namespace).Create(e.t.Context(), pod, metav1.CreateOptions{})
	return err
}

// ready returns when the container of the pod runs, and is not the one that it
// was. It returns the container's id.
func (e *environment) ready(namespace, name, was string) string {
	e.t.Helper()
	ctx, cancel := within(e.t.Context(), podWithin)
	defer cancel()
	var id string
	err := cluster.Await(ctx, e.Cluster.Client.CoreV1().Pods(namespace), name, func(pod *corev1.Pod) error {
		for _, status := range pod.Status.ContainerStatuses {
			if id = status.ContainerID; status.Ready && id != was {
				return nil
			}
		}
		return notYet(pod)
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return id
}

func notYet(pod *corev1.Pod) error {
	for _, status := range pod.Status.ContainerStatuses {
		if waiting := status.State.Waiting; waiting != nil {
			return fmt.Errorf("%s: %s %s", pod.Status.Phase, waiting.Reason, waiting.Message)
		}
	}
	return fmt.Errorf("%s %s", pod.Status.Phase, pod.Status.Message)
}

// ended returns the termination message of the client in the pod.
func (e *environment) ended(namespace, name string) answer {
	e.t.Helper()
	output, err := e.end(podWithin, namespace, name)
	if err != nil {
		e.t.Fatal(err)
	}
	return output
}

func (e *environment) end(d time.Duration, namespace, name string) (answer, error) {
	var output answer
	err := e.ends(d, namespace, name, func(left string) error { return parse([]byte(left), &output) })
	return output, err
}

// ends returns when the pod's container has ended, with its termination message.
func (e *environment) ends(d time.Duration, namespace, name string, left func(string) error) error {
	ctx, cancel := within(e.t.Context(), d)
	defer cancel()
	return cluster.Await(ctx, e.Cluster.Client.CoreV1().Pods(namespace), name, func(pod *corev1.Pod) error {
		for _, status := range pod.Status.ContainerStatuses {
			if ended := status.State.Terminated; ended != nil {
				return left(ended.Message)
			}
		}
		return notYet(pod)
	})
}

func parse(content []byte, into any) error {
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%w: %q", err, content)
	}
	return nil
}

// ask sends a request to a serving client, through the API server.
func (e *environment) ask(ctx context.Context, namespace, name, path string, into any) error {
	ctx, cancel := within(ctx, podWithin)
	defer cancel()
	u, err := url.Parse(path)
	if err != nil {
		return err
	}
	request := e.Cluster.Client.CoreV1().RESTClient().Get().Namespace(namespace).Resource("pods").Name(name + ":8080").SubResource("proxy").Suffix(u.Path)
	for key, values := range u.Query() {
		request = request.Param(key, values[0])
	}
	content, err := request.DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s", err, content)
	}
	return parse(content, into)
}

// right returns an error unless the answer is the address of the GSA and a token that the
// offline Google accepts as the GSA's.
func (e *environment) right(a answer, gsa string) error {
	if a.Failed != "" {
		return errors.New(a.Failed)
	}
	if a.Email != gsa {
		return fmt.Errorf("the e-mail address is %s, not %s", a.Email, gsa)
	}
	return e.Right(a.Token, gsa)
}

// eventually retries until there is no error, for conditions without events to wait for.
// It returns how long that took.
func eventually(t *testing.T, d time.Duration, condition string, f func(context.Context) error) time.Duration {
	t.Helper()
	ctx, cancel := within(t.Context(), d)
	defer cancel()
	start, ticker := time.Now(), time.NewTicker(20*time.Millisecond)
	defer ticker.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return time.Since(start)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v: %v", condition, context.Cause(ctx), err)
		}
	}
}
