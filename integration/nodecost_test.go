package integration

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/kubernetes"
)

// Limits for what one node can cost the API server and itself, for any size of the cluster.
const (
	mostBytesAtStart   = 100 << 10
	mostChurnRequests  = 60
	loadPods, loadKSAs = 110, 20
	churnedPods        = 200
)

// Most of the memory at start is the program's own pages, so it depends on the linked packages.
var (
	mostAtStart  = memory{peak: 30 << 20, own: 10 << 20}
	mostWithPods = memory{peak: 40 << 20, own: 16 << 20}
)

// expect reports memory that exceeds its limits.
func (m memory) expect(t *testing.T, limit memory) {
	t.Helper()
	if m.peak > limit.peak || m.own > limit.own {
		t.Errorf("%s: want %s at most, and %s without the program's pages", m, mib(limit.peak), mib(limit.own))
	}
}

// A node reads its own pods and the KSAs of their namespaces, and nothing that grows
// with the cluster.
func TestNodeCost_DoesNotGrowWithTheCluster(t *testing.T) {
	a := newAudited(t)
	a.KSA(t, a.ns, "first", nil)
	a.RunPod(t, kubernetes.PodSpec{Namespace: a.ns, Name: "first", KSA: "first", Node: a.node, HostNetwork: true})
	var bytesAtStart, requestsAtStart []int64
	made := 0
	for _, count := range []int{100, 1000, 10000} {
		a.elsewhere(made, count)
		made = count
		before := a.requests()
		a.sent.Store(0)
		m := a.start()
		requests, each := since(before, a.requests())
		sent, memory := a.sent.Load(), m.memory(t)
		t.Logf("at start, %d KSAs in the cluster: %d requests (%s), %.1f KiB read, %s", count, requests, each, float64(sent)/1024, memory)
		if sent > mostBytesAtStart {
			t.Errorf("%d bytes were read from the API server at start, want %d at most", sent, mostBytesAtStart)
		}
		memory.expect(t, mostAtStart)
		bytesAtStart, requestsAtStart = append(bytesAtStart, sent), append(requestsAtStart, int64(requests))
		m.stop()
	}
	// What differs from start to start is the length of numbers and of TLS's padding.
	if grown := bytesAtStart[2] - bytesAtStart[0]; grown > 2<<10 {
		t.Errorf("%d bytes more are read at start with 10,000 KSAs than with 100", grown)
	}
	if requestsAtStart[2] != requestsAtStart[0] {
		t.Errorf("%d requests at start with 100 KSAs, and %d with 10,000", requestsAtStart[0], requestsAtStart[2])
	}

	// A dense node in that cluster.
	for i := range loadKSAs {
		name := fmt.Sprintf("app-%d", i)
		gsa := name + "@" + projectID + ".iam.gserviceaccount.com"
		a.KSA(t, a.ns, name, map[string]string{identity.AnnotationGSA: gsa})
		a.google.Bind(gsa, "roles/iam.workloadIdentityUser", principal(a.ns, name))
	}
	var pods []*corev1.Pod
	for i := range loadPods {
		pods = append(pods, a.run(fmt.Sprintf("pod-%d", i), i%loadKSAs))
	}
	before := a.requests()
	a.sent.Store(0)
	m := a.start()
	for _, pod := range pods {
		a.token(m, pod)
	}
	requests, each := since(before, a.requests())
	memory := m.memory(t)
	t.Logf("%d pods of %d KSAs that all have a token, %d KSAs in the cluster: %d requests (%s), %.1f KiB read, %s", loadPods, loadKSAs, made, requests, each, float64(a.sent.Load())/1024, memory)
	memory.expect(t, mostWithPods)

	// Jobs that start, request a token and end.
	before = a.requests()
	a.sent.Store(0)
	start := time.Now()
	for i := range churnedPods {
		job := a.run(fmt.Sprintf("job-%d", i), i%loadKSAs)
		a.token(m, job)
		a.FinishPod(t, job, corev1.PodSucceeded)
		a.DeletePod(t, job)
	}
	requests, each = since(before, a.requests())
	memory = m.memory(t)
	t.Logf("%d pods of %d KSAs that came, had a token and went in %s: %d requests (%s), %.1f KiB read, %s", churnedPods, loadKSAs, time.Since(start).Round(time.Second), requests, each, float64(a.sent.Load())/1024, memory)
	if requests > mostChurnRequests {
		t.Errorf("%d requests for %d pods of %d KSAs, want %d at most", requests, churnedPods, loadKSAs, mostChurnRequests)
	}
	memory.expect(t, mostWithPods)
}
