package cluster_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"gke-metadata-emulator/integration/cluster"
)

// Two KSAs, each with pods on both nodes.
func podsGetTheirOwnAccount(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	for _, ksa := range []string{"reader", "writer"} {
		gsa := e.KSA(t, ns, ksa)
		for _, n := range e.Cluster.Nodes {
			name := ksa + "-" + n.Name
			e.pod(ns, name, podSpec(ksa, n.Name, "serve"))
			e.ready(ns, name, "")
			var now answer
			if err := e.ask(t.Context(), ns, name, "/now", &now); err != nil {
				t.Fatal(err)
			}
			if err := e.right(now, gsa); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func firstInstructionGetsAToken(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	gsa := e.KSA(t, ns, "app")
	for _, n := range e.Cluster.Nodes {
		e.pod(ns, n.Name, podSpec("app", n.Name, "once"))
	}
	for _, n := range e.Cluster.Nodes {
		said := e.ended(ns, n.Name)
		if err := e.right(said, gsa); err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
		if said.Again > 0 {
			t.Errorf("%s: asked %d times more, on idle nodes", n.Name, said.Again)
		}
		t.Logf("%s: %s from the program's start", n.Name, said.Took)
	}
}

// Pods of the node's network have one address, so that only the kernel can say
// which of them calls.
func hostNetworkPodsAreToldApart(t *testing.T, e *environment) {
	if e.mode.podsOnly {
		t.Skip("the node's cgroups are a part of the machine's here, and " + e.mode.name + " redirects pods of the node's network only where the daemon sees the root")
	}
	ns := e.Namespace(t)
	gsas := map[string]string{"reader": e.KSA(t, ns, "reader"), "writer": e.KSA(t, ns, "writer")}
	for ksa := range gsas {
		for _, n := range e.Cluster.Nodes {
			spec := podSpec(ksa, n.Name, "once")
			spec.HostNetwork = true
			e.pod(ns, ksa+"-"+n.Name, spec)
		}
	}
	for ksa, gsa := range gsas {
		for _, n := range e.Cluster.Nodes {
			if err := e.right(e.ended(ns, ksa+"-"+n.Name), gsa); err != nil {
				t.Errorf("%s on %s: %v", ksa, n.Name, err)
			}
		}
	}
}

func nameResolves(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	e.KSA(t, ns, "app")
	for _, n := range e.Cluster.Nodes {
		e.pod(ns, n.Name, podSpec("app", n.Name, "serve"))
		e.ready(ns, n.Name, "")
		for _, name := range []string{"metadata.google.internal", "metadata.google.internal."} {
			var addresses []string
			if err := e.ask(t.Context(), ns, n.Name, "/lookup?name="+name, &addresses); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(addresses, []string{"169.254.169.254"}) {
				t.Errorf("%s: %s is %v", n.Name, name, addresses)
			}
		}
	}
}

const (
	jobs        = 50
	jobAccounts = 5
	jobsWithin  = 5 * time.Minute
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
	addresses := map[string]string{} // to the KSA that had it last
	reused, again := 0, 0
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
			said := e.ended(ns, pod.Name)
			if err := e.right(said, gsas[ksa]); err != nil {
				t.Errorf("%s on %s, %s: %v", name, pod.Spec.NodeName, pod.Status.PodIP, err)
			}
			if said.Again > 0 {
				again++
				t.Logf("%s on %s, %s: asked %d times more, %s in all", name, pod.Spec.NodeName, pod.Status.PodIP, said.Again, said.Took)
			}
			if before, was := addresses[pod.Status.PodIP]; was && before != ksa {
				reused++
			}
			addresses[pod.Status.PodIP] = ksa
		}
	}
	e.note = fmt.Sprintf("%s, %d addresses reused by another KSA, %d had to ask again", time.Since(start).Round(time.Second), reused, again)
	t.Log(e.note)
	if reused == 0 {
		t.Error("no address was reused, so nothing was shown of that")
	}
}

// The kernel ends it, as when there is no memory left: nothing was tidied up.
func killedDaemonComesBack(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	gsa := e.KSA(t, ns, "app")
	n := e.Cluster.Nodes[0]
	e.pod(ns, "app", podSpec("app", n.Name, "serve"))
	e.ready(ns, "app", "")
	daemons := programs(t, n, "gke-metadata-emulator")
	if len(daemons) != 1 {
		t.Fatalf("the daemon of %s is %v", n.Name, daemons)
	}
	if err := syscall.Kill(daemons[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	eventually(t, podWithin, "the process has ended", func(context.Context) error {
		if slices.Contains(programs(t, n, "gke-metadata-emulator"), daemons[0]) {
			return fmt.Errorf("process %d is there", daemons[0])
		}
		return nil
	})
	eventually(t, podWithin, "a token after the daemon was killed", func(ctx context.Context) error {
		var now answer
		if err := e.ask(ctx, ns, "app", "/now", &now); err != nil {
			return err
		}
		return e.right(now, gsa)
	})
	e.note = time.Since(start).Round(100 * time.Millisecond).String()
	t.Logf("a token again %s after the daemon was killed", e.note)
}

// programs returns the processes on the node that run a program of this name.
func programs(t *testing.T, n *cluster.Node, name string) []int {
	t.Helper()
	pids, err := n.Pids()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(pids, func(pid int) bool {
		exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
		return err != nil || filepath.Base(exe) != name
	})
}

// Power goes off and on: all processes, addresses, routes and mounts are gone,
// files are there.
func rebootedNodeServesAgain(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	gsa := e.KSA(t, ns, "app")
	n := e.Cluster.Nodes[1]
	e.pod(ns, "app", podSpec("app", n.Name, "serve"))
	was := e.ready(ns, "app", "")
	if err := e.Cluster.KillNode(n); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	ctx, cancel := within(t.Context(), 2*time.Minute)
	defer cancel()
	if err := e.Cluster.RestartNode(ctx, n); err != nil {
		t.Fatal(err)
	}
	e.ServeGoogle(t, n)
	if err := n.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	e.ready(ns, "app", was)
	eventually(t, 2*time.Minute, "a token after the node was off", func(ctx context.Context) error {
		var now answer
		if err := e.ask(ctx, ns, "app", "/now", &now); err != nil {
			return err
		}
		return e.right(now, gsa)
	})
	e.note = time.Since(start).Round(100 * time.Millisecond).String()
	var first answer
	if err := e.ask(ctx, ns, "app", "/first", &first); err != nil {
		t.Error(err)
	}
	t.Logf("a token again %s after the node was switched on; the pod's first instruction took %s and got: %s%s", e.note, first.Took, first.Email, first.Failed)
}
