package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"gke-metadata-emulator/integration/cluster/deployment"
)

// proofLine is the daemon's log line about an accepted connection.
var proofLine = regexp.MustCompile(`msg=connection source=(\S+) proof=(\S+) pod=(\S+)`)

// proofNames are the words of the table for those of the log.
var proofNames = map[string]string{"record": "record", "socket": "socket", "none": "address"}

// proved notes how the daemon knew the pod, for the table.
func (e *environment) proved(namespace, name string) {
	e.t.Helper()
	eventually(e.t, podWithin, "the daemon's log of "+name, func(ctx context.Context) error {
		found, err := e.proofs(ctx, namespace, name)
		for _, proof := range found {
			if !slices.Contains(e.proof, proof) {
				e.proof = append(e.proof, proof)
			}
		}
		slices.Sort(e.proof)
		return err
	})
}

// proofs are those of all connections of the pod, which must be there.
func (e *environment) proofs(ctx context.Context, namespace, name string) ([]string, error) {
	pod, err := e.Cluster.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	logged, err := e.logsOf(ctx, pod.Spec.NodeName, &pod.CreationTimestamp)
	if err != nil {
		return nil, err
	}
	uid := string(pod.UID)
	if hash := pod.Annotations["kubernetes.io/config.hash"]; hash != "" {
		uid = hash // of a static pod, as its cgroup has it
	}
	var found []string
	for _, line := range proofLine.FindAllStringSubmatch(logged, -1) {
		source, err := netip.ParseAddrPort(line[1])
		if err != nil {
			return nil, err
		}
		if line[3] != uid && (line[3] != `""` || source.Addr().String() != pod.Status.PodIP) {
			continue
		}
		if proof := proofNames[line[2]]; proof != "" {
			found = append(found, proof)
		} else {
			return nil, fmt.Errorf("pod %s: the daemon logged %q", name, line[0])
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it has no connection of pod " + namespace + "/" + name + ", UID " + uid)
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// logsOf is the log of the node's daemon since a time.
func (e *environment) logsOf(ctx context.Context, node string, since *metav1.Time) (string, error) {
	daemons := e.Cluster.Client.CoreV1().Pods(deployment.Name)
	list, err := daemons.List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String()})
	if err != nil {
		return "", err
	}
	var logged strings.Builder
	for _, daemon := range list.Items {
		content, err := daemons.GetLogs(daemon.Name, &corev1.PodLogOptions{SinceTime: since}).DoRaw(ctx)
		if err != nil {
			return "", err
		}
		logged.Write(content)
	}
	return logged.String(), nil
}
