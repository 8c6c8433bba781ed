package cluster_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"gke-metadata-emulator/integration/cluster"
)

const (
	jobs        = 170 // in each of six columns: a thousand
	jobAccounts = 5
	jobsWithin  = 15 * time.Minute // twenty times the duration on idle cores
)

// More pods than a node has addresses, of five KSAs: an address soon is that of a
// pod of another KSA.
func jobsGetTheRightToken(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	gsas := map[string]string{}
	for i := range jobAccounts {
		ksa := fmt.Sprintf("job-%d", i)
		gsas[ksa] = e.KSA(t, ns, ksa)
	}
	start := time.Now()
	for i := range jobs {
		ksa := fmt.Sprintf("job-%d", i%jobAccounts)
		name := fmt.Sprintf("%s-%d", ksa, i)
		job := &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: batchv1.JobSpec{BackoffLimit: new(int32), Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"job": name}}, Spec: podSpec(ksa, "", "once"),
			}},
		}
		if _, err := e.Cluster.Client.BatchV1().Jobs(ns).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := within(t.Context(), jobsWithin)
	defer cancel()
	var took []time.Duration
	addresses := map[string]string{} // to the KSA that had it last
	reused, retries := 0, 0
	for i := range jobs {
		ksa := fmt.Sprintf("job-%d", i%jobAccounts)
		name := fmt.Sprintf("%s-%d", ksa, i)
		err := cluster.Await(ctx, e.Cluster.Client.BatchV1().Jobs(ns), name, func(job *batchv1.Job) error {
			if job.Status.Succeeded+job.Status.Failed == 0 {
				return fmt.Errorf("%d pods run", job.Status.Active)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		pods, err := e.Cluster.Client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: labels.Set{"job": name}.String()})
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods.Items {
			output := e.ended(ns, pod.Name)
			if err := e.right(output, gsas[ksa]); err != nil {
				t.Errorf("%s on %s, %s: %v", name, pod.Spec.NodeName, pod.Status.PodIP, err)
			}
			took = append(took, output.Took)
			if output.Again > 0 {
				retries++
				t.Logf("%s on %s, %s: asked %d times more, %s in all", name, pod.Spec.NodeName, pod.Status.PodIP, output.Again, output.Took)
			}
			if before, was := addresses[pod.Status.PodIP]; was && before != ksa {
				reused++
			}
			addresses[pod.Status.PodIP] = ksa
		}
	}
	e.note = fmt.Sprintf("%s, %d addresses reused by another KSA, %d had to retry, token after %s", time.Since(start).Round(time.Second), reused, retries, distribution(took))
	t.Log(e.note)
	if reused == 0 {
		t.Error("no address was reused, so nothing was shown of that")
	}
}

const (
	newPods = 100
	atOnce  = 4 // such that they do not wait for each other on two cores
)

// Each is the first of its KSA, so that nothing is in any cache, and asks with its
// first instruction.
func newPodsGetTheirFirstToken(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	starts, tokens := make([]time.Duration, newPods), make([]time.Duration, newPods)
	retries := 0
	var pods errgroup.Group
	pods.SetLimit(atOnce)
	failed := make([]error, newPods)
	var output [newPods]answer
	for i := range newPods {
		ksa := fmt.Sprintf("new-%d", i)
		gsa := e.KSA(t, ns, ksa)
		pods.Go(func() error {
			created := time.Now()
			failed[i] = e.create(ns, ksa, podSpec(ksa, "", "once"))
			if failed[i] == nil {
				output[i], failed[i] = e.end(jobsWithin, ns, ksa)
			}
			if failed[i] == nil {
				failed[i] = e.right(output[i], gsa)
			}
			starts[i], tokens[i] = output[i].Started.Sub(created), output[i].Took
			return nil
		})
	}
	_ = pods.Wait() // the errors are in failed
	for i, err := range failed {
		if err != nil {
			t.Errorf("pod %d: %v", i, err)
		}
		retries += output[i].Again
	}
	e.note = fmt.Sprintf("token after %s after the program's start, which is %s after the pod was created; retried %d times", distribution(tokens), distribution(starts), retries)
	t.Log(e.note)
}

// distribution formats percentiles of durations.
func distribution(took []time.Duration) string {
	took = slices.Sorted(slices.Values(took))
	at := func(percent int) time.Duration { return took[(len(took)-1)*percent/100].Round(100 * time.Microsecond) }
	return fmt.Sprintf("%s (p50), %s (p99), %s (max)", at(50), at(99), at(100))
}
