package deployment

import (
	"context"
	"fmt"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// token matches the beginning of all tokens of the offline Google, and of all JWTs.
var token = regexp.MustCompile(`.{0,80}(ya29\.|eyJ)`)

// refuseTokens fails the test for each token in the daemons' logs and pages, or in an event.
func (i *Installation) refuseTokens(ctx context.Context, t T) {
	t.Helper()
	texts, err := i.said(ctx)
	if err != nil {
		t.Errorf("the daemons' logs, pages and events were not all looked at: %v", err)
	}
	for where, text := range texts {
		if found := token.Find(text); found != nil {
			t.Errorf("there is a token in %s: %s…", where, found)
		}
	}
}

// said is all output of the daemons, by its source.
func (i *Installation) said(ctx context.Context) (map[string][]byte, error) {
	texts := map[string][]byte{}
	pods, err := i.Cluster.Client.CoreV1().Pods(Name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return texts, err
	}
	for _, pod := range pods.Items {
		for _, status := range pod.Status.ContainerStatuses {
			for _, previous := range []bool{false, true}[:1+min(status.RestartCount, 1)] {
				options := &corev1.PodLogOptions{Previous: previous}
				content, err := i.Cluster.Client.CoreV1().Pods(Name).GetLogs(pod.Name, options).DoRaw(ctx)
				if err != nil && !previous { // a reboot may have taken it
					return texts, err
				}
				texts[fmt.Sprintf("the log of %s, of the container before: %t", pod.Name, previous)] = content
			}
		}
	}
	for _, n := range i.Cluster.Nodes {
		page := "http://127.0.0.1:8989/metrics"
		content, err := n.Run(ctx, "curl", "--silent", "--show-error", "--fail", "--max-time", "10", page)
		if err != nil {
			return texts, err
		}
		texts[page+" of "+n.Name] = content
	}
	events, err := i.Cluster.Client.CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return texts, err
	}
	for _, event := range events.Items {
		texts["an event on "+event.InvolvedObject.Namespace+"/"+event.InvolvedObject.Name+": "+event.Name] = []byte(event.Message)
	}
	return texts, nil
}
