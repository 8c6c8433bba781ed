package integration

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/config"
)

const tokenPath = "instance/service-accounts/default/token"

// An address that changes hands never carries the old identity along, however
// soon the new pod sends a request and however late the watch is.
func TestIdentity_ReusedAddressHasTheNewPod(t *testing.T) {
	t.Run("at once", func(t *testing.T) { reuseAddress(t, startNode(t, asInstalled).ready(t), 200) })
	t.Run("with a late watch", func(t *testing.T) {
		n := startNode(t, lagging(t, 40*time.Millisecond)).ready(t)
		reuseAddress(t, n, 200)
		// Otherwise the watch was never late and this test has shown nothing.
		if grep(n.metrics(t), `gme_identity_confirmations_total{result="gone"}`) == "" {
			t.Error("the API server was never ahead of the watch")
		}
	})
}

func reuseAddress(t *testing.T, n *node, times int) {
	ns := cluster.Namespace(t, "team-")
	ksas := []string{"old", "new"}
	gsas := []string{writer, reader}
	for i, ksa := range ksas {
		cluster.KSA(t, ns, ksa, annotated(gsas[i]))
		n.link(ns, ksa, gsas[i])
	}
	var running *corev1.Pod
	for i := range times {
		if running != nil {
			cluster.DeletePod(t, running)
		}
		turn := i % 2
		running = cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: fmt.Sprintf("job-%d", i), KSA: ksas[turn], Node: n.name, IP: "127.0.1.1"})
		app := n.pod(t, "127.0.1.1") // a new client, so its connections are new
		if got := app.email(); got != gsas[turn] {
			t.Fatalf("pod %d: e-mail %s is another pod's, want %s", i, got, gsas[turn])
		}
		if got := app.grant().Principal; got != "serviceAccount:"+gsas[turn] {
			t.Fatalf("pod %d: token of %s, want %s", i, got, gsas[turn])
		}
		app.client.CloseIdleConnections()
	}
	t.Log(grep(n.metrics(t), "gme_identity_confirmations_total{"))
}

// The same applies if the old pod stays listed, as finished Jobs do.
func TestIdentity_FinishedJobFreesItsAddress(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "job", annotated(writer))
	cluster.KSA(t, ns, "app", annotated(reader))
	for i, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		job := cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: fmt.Sprint("job-", i), KSA: "job", Node: n.name, IP: "127.0.1.1"})
		jobPod := n.pod(t, "127.0.1.1")
		if got := jobPod.email(); got != writer {
			t.Fatalf("job: %s", got)
		}
		cluster.FinishPod(t, job, phase)
		app := cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: fmt.Sprint("app-", i), KSA: "app", Node: n.name, IP: "127.0.1.1"})
		if got := n.pod(t, "127.0.1.1").email(); got != reader {
			t.Errorf("%s: after the job the address has the identity %s", phase, got)
		}
		// Connections that the job left open have no identity any more.
		eventually(t, deadline, "the job's connection is refused", func() error {
			if got := jobPod.get("instance/service-accounts/default/email"); got.status != http.StatusForbidden || !strings.Contains(got.body, "has ended") {
				return fmt.Errorf("%d %s", got.status, got.body)
			}
			return nil
		})
		cluster.DeletePod(t, app)
	}
}

// A pod that is being deleted keeps its identity until it is gone.
func TestIdentity_TerminatingPodKeepsIt(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	n.link(ns, "app", writer)
	p := cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	p = cluster.TerminatePod(t, p)
	if p.DeletionTimestamp == nil {
		t.Fatal("the pod is not terminating")
	}
	for range 3 {
		if got := n.pod(t, "127.0.1.1").grant().Principal; got != "serviceAccount:"+writer {
			t.Errorf("while terminating: %s", got)
		}
	}
	cluster.DeletePod(t, p)
}

// Two pods listed with one address are none until one of them is gone.
func TestIdentity_AddressOfTwoPodsIsRefused(t *testing.T) {
	n := startNode(t, func(s *config.Serve) { s.Pods.IdentityWait = 200 * time.Millisecond }).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "a", annotated(writer))
	cluster.KSA(t, ns, "b", annotated(reader))
	a := cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "a", KSA: "a", Node: n.name, IP: "127.0.1.1"})
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "b", KSA: "b", Node: n.name, IP: "127.0.1.1"})
	eventually(t, deadline, "both are known", func() error {
		got := n.pod(t, "127.0.1.1").get(tokenPath)
		if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "claimed by more than one pod") {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
	cluster.DeletePod(t, a)
	eventually(t, deadline, "the remaining pod has the address", func() error {
		if got := n.pod(t, "127.0.1.1").get("instance/service-accounts/default/email"); got.status != http.StatusOK || got.body != reader {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
}

// A pod can send a request before its address is in its status, before its node's watch has
// it, and before its service account has been created: the request waits.
func TestIdentity_EarlyRequestWaits(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	answer := make(chan reply, 1)
	ask := func(ip string) {
		p := n.pod(t, ip)
		go func() {
			r, err := p.try("instance/service-accounts/default/email")
			if err != nil {
				r.body = err.Error()
			}
			answer <- r
		}()
		eventually(t, deadline, "the request is under way", func() error {
			if !strings.Contains(n.connections(t), ip+":") {
				return fmt.Errorf("no connection from %s", ip)
			}
			return nil
		})
	}
	cluster.KSA(t, ns, "app", annotated(writer))

	ask("127.0.1.1") // bound, without an address
	p := cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "without-address", KSA: "app", Node: n.name})
	cluster.SetPodIP(t, p, "127.0.1.1")
	if got := <-answer; got.status != http.StatusOK || got.body != writer {
		t.Errorf("before its address: %d %s", got.status, got.body)
	}

	fresh := cluster.Namespace(t, "fresh-") // no pod has used it, so its accounts are not watched
	cluster.KSA(t, fresh, "app", annotated(reader))
	ask("127.0.1.2")
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: fresh, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.2"})
	if got := <-answer; got.status != http.StatusOK || got.body != reader {
		t.Errorf("in a new namespace: %d %s", got.status, got.body)
	}
}

// A caller that is no pod of this node is refused after the wait, with the reason. Keys that
// need no identity do not wait.
func TestIdentity_UnknownSourceIsRefused(t *testing.T) {
	const wait = 300 * time.Millisecond
	n := startNode(t, func(s *config.Serve) { s.Pods.IdentityWait = wait }).ready(t)
	stranger := n.pod(t, "127.0.1.99")
	start := time.Now()
	got := stranger.get(tokenPath)
	if took := time.Since(start); took < wait {
		t.Errorf("refused after %s already, the watch may lag", took)
	}
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" || !strings.Contains(got.body, "no pod on node "+n.name+" has the address 127.0.1.99") {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if got := stranger.value("project/project-id"); got != projectID {
		t.Errorf("project-id: %q", got)
	}
}

// A pod of another node is a stranger here.
func TestIdentity_PodOnAnotherNodeIsRefused(t *testing.T) {
	n := startNode(t, func(s *config.Serve) { s.Pods.IdentityWait = 100 * time.Millisecond }).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "default", Node: "elsewhere", IP: "127.0.1.1"})
	if got := n.pod(t, "127.0.1.1").get(tokenPath); got.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// Host-network pods look alike by their address: none has an identity.
func TestIdentity_HostNetworkPodIsRefused(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "agent", annotated(writer))
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "agent", KSA: "agent", Node: n.name, HostNetwork: true, IP: "127.0.1.7"})
	for _, ip := range []string{"127.0.1.7", "127.0.0.1"} {
		var got reply
		eventually(t, deadline, "the pod is known", func() error {
			if got = n.pod(t, ip).get(tokenPath); got.status != http.StatusForbidden {
				return fmt.Errorf("%d %s", got.status, got.body)
			}
			return nil
		})
		if !strings.Contains(got.body, "run the pod without hostNetwork") {
			t.Errorf("from %s: %s", ip, got.body)
		}
	}
}

// A KSA that is deleted and recreated under a running pod works, even on the pod's open
// connection.
func TestIdentity_RecreatedKSAWorks(t *testing.T) {
	n := startNode(t, func(s *config.Serve) { s.Pods.IdentityWait = 200 * time.Millisecond }).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	n.link(ns, "app", writer)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	app.grant()
	for range 3 {
		cluster.DeleteKSA(t, ns, "app")
		eventually(t, deadline, "the deletion is seen", func() error {
			got := app.get(tokenPath)
			if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "kubectl create serviceaccount --namespace "+ns+" app") {
				return fmt.Errorf("%d %s", got.status, got.body)
			}
			return nil
		})
		cluster.KSA(t, ns, "app", annotated(writer))
		minted := n.google.Counters()["sts.token"]
		eventually(t, deadline, "the new KSA is seen", func() error {
			if got := app.get(tokenPath); got.status != http.StatusOK {
				return fmt.Errorf("%d %s", got.status, got.body)
			}
			return nil
		})
		if got := app.grant().Principal; got != "serviceAccount:"+writer {
			t.Errorf("after it was recreated: %s", got)
		}
		if got := n.google.Counters()["sts.token"]; got == minted { // more than one call if the first one timed out
			t.Errorf("the new KSA got the token of the old one")
		}
	}
}

// A node watches the service accounts of the namespaces that it has pods of.
func TestIdentity_WatchesOnlyNamespacesInUse(t *testing.T) {
	n := startNode(t).ready(t)
	for range 3 {
		cluster.Namespace(t, "unused-")
	}
	ns := cluster.Namespace(t, "team-")
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "default", Node: n.name, IP: "127.0.1.1"})
	n.pod(t, "127.0.1.1").email()
	eventually(t, deadline, "one namespace is watched", func() error {
		if got := grep(n.metrics(t), "gme_identity_watched_namespaces "); got != "gme_identity_watched_namespaces 1" {
			return errors.New(got)
		}
		return nil
	})
}

// A neighbour cannot name its victim in a header.
func TestIdentity_IgnoresForwardedFor(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "victim", annotated(writer))
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "victim", KSA: "victim", Node: n.name, IP: "127.0.1.1"})
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "neighbour", KSA: "default", Node: n.name, IP: "127.0.1.2"})
	request, _ := http.NewRequest(http.MethodGet, "http://"+n.addr+"/computeMetadata/v1/instance/service-accounts/default/email", nil)
	request.Header.Set("Metadata-Flavor", "Google")
	for _, header := range []string{"X-Forwarded-For", "Forwarded", "X-Real-IP"} {
		request.Header.Set(header, "127.0.1.1")
		response, err := n.pod(t, "127.0.1.2").client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if want := map[string]int{"X-Forwarded-For": http.StatusForbidden}[header]; want != 0 && response.StatusCode != want {
			t.Errorf("%s: %s, want %d", header, response.Status, want)
		}
		request.Header.Del(header)
	}
}

// grep returns the lines that begin with prefix.
func grep(text, prefix string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, prefix) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
