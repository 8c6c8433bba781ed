package examples

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/fakegoogle"
)

const hundred = 100

// scopeSets are those that tokens are asked for: two that the daemon fetches before the
// pod starts, of which the second is go-containerregistry's, and Cloud Storage's.
const scopeSets = 3

// hundred builds at once, all of one KSA that no node has seen before. How often the
// API server and Google are asked does not depend on how many pods there are.
func (b *builds) hundred() {
	gsa := b.account("crowd", "roles/artifactregistry.writer")
	jobs := b.s.Cluster.Client.BatchV1().Jobs(kanikoNamespace)
	before, google, load := b.calls(), b.s.Google.Counters(), b.load()
	ctx, cancel := context.WithTimeoutCause(b.Context(), builtWithin, fmt.Errorf("not within %s", builtWithin))
	defer cancel()
	start := time.Now()
	for i := range hundred {
		name := fmt.Sprintf("crowd-%d", i)
		_, job := b.manifest("crowd", name, gsa, imageOf(ProjectID, name))
		if _, err := jobs.Create(ctx, &job, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	created := time.Since(start)
	for i := range hundred {
		name := fmt.Sprintf("crowd-%d", i)
		if status := b.ended(ctx, name).Status; status.Succeeded != 1 || status.Failed != 0 {
			b.Errorf("%s: %d pods succeeded, %d failed", name, status.Succeeded, status.Failed)
		}
	}
	took := time.Since(start)
	b.Logf("%d Jobs: created in %s, all done after %s; load of the machine before %s, after %s", hundred,
		created.Round(10*time.Millisecond), took.Round(100*time.Millisecond), load, b.load())

	after, calls := b.calls(), b.s.Google.Counters()
	nodes := len(b.s.Cluster.Nodes)
	for _, count := range []struct {
		description, call string
		got, bound        int
	}{
		{"TokenRequests of the API server", "TokenRequest", after["TokenRequest"].all - before["TokenRequest"].all, nodes},
		{"calls of STS", "sts", calls[fakegoogle.MethodSTSToken] - google[fakegoogle.MethodSTSToken], nodes},
		{"calls of IAM Credentials", "generateAccessToken", calls[fakegoogle.MethodGenerateAccessToken] - google[fakegoogle.MethodGenerateAccessToken], nodes * scopeSets},
	} {
		retries := after[count.call].silent - before[count.call].silent
		b.Logf("%d %s, at most %d are expected, plus %d that were retried because they timed out", count.got, count.description, count.bound, retries)
		if count.got > count.bound+retries || count.got == 0 {
			b.Errorf("%d %s, want 1 to %d: one chain for each KSA and node", count.got, count.description, count.bound+retries)
		}
	}
	b.checkAll(ctx, gsa)
}

// checkAll checks the requests of each build, and when it had its first token.
func (b *builds) checkAll(ctx context.Context, gsa string) {
	pods, err := b.s.Cluster.Client.CoreV1().Pods(kanikoNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	perNode := map[string]int{}
	var firstToken, all []time.Duration
	for _, pod := range pods.Items {
		name := pod.Labels["batch.kubernetes.io/job-name"]
		if !strings.HasPrefix(name, "crowd-") {
			continue
		}
		perNode[pod.Spec.NodeName]++
		digest := b.pulled(imageOf(ProjectID, name))
		pushes := b.pushes(ProjectID, name)
		if len(pushes) != 1 {
			b.Errorf("%s was pushed %d times", name, len(pushes))
			continue
		}
		chain := Chain{KSA: pushes[0].KSA, Through: pushes[0].Through, Principal: pushes[0].Principal}
		if err := chain.Federated(kanikoNamespace, "crowd", gsa); err != nil {
			b.Errorf("%s: %v", name, err)
		}
		if b.real {
			continue // it does not say when it had its token
		}
		log, err := b.s.Cluster.Client.CoreV1().Pods(kanikoNamespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		if err != nil {
			b.Fatal(err)
		}
		var output struct {
			Digest          string
			FirstToken, All time.Duration
		}
		if err := json.Unmarshal(log, &output); err != nil || output.Digest != digest || output.FirstToken <= 0 {
			b.Errorf("%s: it logged %s (%v), and the registry has %s", name, log, err, digest)
			continue
		}
		firstToken, all = append(firstToken, output.FirstToken), append(all, output.All)
	}
	b.Logf("pods by node: %v", perNode)
	if len(perNode) != len(b.s.Cluster.Nodes) {
		b.Error("not all nodes had a build, so nothing was shown of them")
	}
	if b.real {
		b.Log("times to the first token are not measured: kaniko's executor does not report them")
		return
	}
	if len(all) == hundred {
		b.Logf("from a container's start to its first token: %s; to its end: %s", distribution(firstToken), distribution(all))
	} else {
		b.Errorf("%d builds reported when they got their token", len(all))
	}
}

// distribution formats percentiles of durations.
func distribution(took []time.Duration) string {
	took = slices.Sorted(slices.Values(took))
	at := func(percent int) time.Duration { return took[(len(took)-1)*percent/100].Round(time.Millisecond) }
	return fmt.Sprintf("%s (p50), %s (p99), %s (max)", at(50), at(99), at(100))
}

var call = regexp.MustCompile(`(?m)^gme_upstream_seconds_count\{call="([^"]*)",result="([^"]*)"\} (\d+)$`)

// calls are those of one kind that the daemons have made.
type calls struct {
	all    int
	silent int // of a busy machine, above all
}

// calls are all of them, by kind, by the daemons' own metrics: the API server's would
// have the kubelets', too, which are one for each pod.
func (b *builds) calls() map[string]calls {
	b.Helper()
	sum := map[string]calls{}
	for _, n := range b.s.Cluster.Nodes {
		output, err := n.Run(b.Context(), "curl", "--silent", "--show-error", "--fail", "--max-time", "10", "http://127.0.0.1:8989/metrics")
		if err != nil {
			b.Fatal(err)
		}
		for _, found := range call.FindAllStringSubmatch(string(output), -1) {
			count, err := strconv.Atoi(found[3])
			if err != nil {
				b.Fatal(err)
			}
			total := sum[found[1]]
			total.all += count
			if found[2] == "unavailable" {
				total.silent += count
			}
			sum[found[1]] = total
		}
	}
	return sum
}

// load is that of the machine, in the last minute.
func (b *builds) load() string {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(content))[0]
}
