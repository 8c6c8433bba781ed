package cluster_test

import (
	"bytes"
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

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/cluster"
)

const podWithin = time.Minute

// answer is what the client wrote of the metadata server.
type answer struct {
	Email  string `json:"email"`
	Token  string `json:"token"`
	Took   string `json:"took"`
	Again  int    `json:"again"`
	Failed string `json:"failed"`
}

// namespace makes one that ends with the test.
func (e *environment) namespace() string {
	e.t.Helper()
	namespaces := e.cluster.Client.CoreV1().Namespaces()
	made, err := namespaces.Create(e.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "team-"}}, metav1.CreateOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		ctx, cancel := within(context.WithoutCancel(e.t.Context()), podWithin)
		defer cancel()
		if err := namespaces.Delete(ctx, made.Name, metav1.DeleteOptions{}); err != nil {
			e.t.Error(err)
		}
	})
	return made.Name
}

// ksa makes a KSA that may be a GSA of its own, and returns the GSA.
func (e *environment) ksa(namespace, name string) string {
	e.t.Helper()
	gsa := name + "-" + namespace + "@" + projectID + ".iam.gserviceaccount.com"
	e.google.Bind(gsa, "roles/iam.workloadIdentityUser", "principal:"+pool+"/subject/system:serviceaccount:"+namespace+":"+name)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{identity.AnnotationGSA: gsa}}}
	if _, err := e.cluster.Client.CoreV1().ServiceAccounts(namespace).Create(e.t.Context(), account, metav1.CreateOptions{}); err != nil {
		e.t.Fatal(err)
	}
	return gsa
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
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	if _, err := e.cluster.Client.CoreV1().Pods(namespace).Create(e.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		e.t.Fatal(err)
	}
}

// ready returns when the container of the pod runs, and is not the one that it
// was. It returns the container's id.
func (e *environment) ready(namespace, name, was string) string {
	e.t.Helper()
	ctx, cancel := within(e.t.Context(), podWithin)
	defer cancel()
	var id string
	err := cluster.Await(ctx, e.cluster.Client.CoreV1().Pods(namespace), name, func(pod *corev1.Pod) error {
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

// ended returns what the client in the pod wrote as it ended.
func (e *environment) ended(namespace, name string) answer {
	e.t.Helper()
	ctx, cancel := within(e.t.Context(), podWithin)
	defer cancel()
	var said answer
	err := cluster.Await(ctx, e.cluster.Client.CoreV1().Pods(namespace), name, func(pod *corev1.Pod) error {
		for _, status := range pod.Status.ContainerStatuses {
			if ended := status.State.Terminated; ended != nil {
				return parse([]byte(ended.Message), &said)
			}
		}
		return notYet(pod)
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return said
}

func parse(content []byte, into any) error {
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%w: %q", err, content)
	}
	return nil
}

// ask asks a client that serves, through the API server.
func (e *environment) ask(ctx context.Context, namespace, name, path string, into any) error {
	ctx, cancel := within(ctx, podWithin)
	defer cancel()
	u, err := url.Parse(path)
	if err != nil {
		return err
	}
	request := e.cluster.Client.CoreV1().RESTClient().Get().Namespace(namespace).Resource("pods").Name(name + ":8080").SubResource("proxy").Suffix(u.Path)
	for key, values := range u.Query() {
		request = request.Param(key, values[0])
	}
	content, err := request.DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s", err, content)
	}
	return parse(content, into)
}

// right says whether the answer is a token and the address of the GSA, and
// Google takes the token for the GSA's.
func (e *environment) right(a answer, gsa string) error {
	if a.Failed != "" {
		return errors.New(a.Failed)
	}
	if a.Email != gsa {
		return fmt.Errorf("the e-mail address is %s, not %s", a.Email, gsa)
	}
	grant, known := e.google.Inspect(a.Token)
	if !known {
		return errors.New("Google does not know the token")
	}
	if grant.Principal != "serviceAccount:"+gsa {
		return fmt.Errorf("the token is of %s, not of %s", grant.Principal, gsa)
	}
	return nil
}

// eventually asks again until there is no error. What it waits for sends no
// events. It returns how long that took.
func eventually(t *testing.T, d time.Duration, what string, f func(context.Context) error) time.Duration {
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
			t.Fatalf("%s: %v: %v", what, context.Cause(ctx), err)
		}
	}
}

// awaitNoPods returns when the namespace has no pods.
func (e *environment) awaitNoPods(ctx context.Context, namespace string) error {
	pods := e.cluster.Client.CoreV1().Pods(namespace)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		left, err := pods.List(ctx, metav1.ListOptions{})
		if err == nil && len(left.Items) == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("pods of %s: %w: %d are left, %v", namespace, context.Cause(ctx), len(left.Items), err)
		}
	}
}

// daemonLogs is what the daemons said last.
func (e *environment) daemonLogs() string {
	ctx, cancel := within(context.WithoutCancel(e.t.Context()), 10*time.Second)
	defer cancel()
	pods := e.cluster.Client.CoreV1().Pods(daemonName)
	list, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	var logs bytes.Buffer
	lines := int64(60)
	for _, pod := range list.Items {
		fmt.Fprintf(&logs, "%s on %s is %v\n", pod.Name, pod.Spec.NodeName, notYet(&pod))
		content, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx)
		fmt.Fprintf(&logs, "%s\n%v\n", content, err)
	}
	return logs.String()
}
