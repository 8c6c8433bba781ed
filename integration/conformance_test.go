package integration

import (
	"strings"
	"testing"

	"gke-metadata-emulator/conformance"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/kubernetes"
)

// The daemon conforms to its own conformance cases: for a linked KSA, for an unlinked one,
// and for one that is reported as its principal identifier.
func TestConformance(t *testing.T) {
	for name, target := range targets(t) {
		t.Run(name, func(t *testing.T) { conform(t, target.host) })
	}
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	for ip, annotations := range map[string]map[string]string{
		"127.0.1.2": nil,
		"127.0.1.3": {identity.AnnotationPrincipalEmail: "true"},
	} {
		ksa := "app-" + ip[len(ip)-1:]
		cluster.KSA(t, ns, ksa, annotations)
		cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: ksa, KSA: ksa, Node: n.name, IP: ip})
		email := n.pod(t, ip).email()
		if principal := strings.HasPrefix(email, "principal://"); principal != (annotations != nil) || strings.Contains(email, "@") {
			t.Errorf("e-mail address %s with the annotations %v", email, annotations)
		}
		t.Run("serve as "+email, func(t *testing.T) { conform(t, kubernetes.Relay(t, ip, n.addr)) })
	}
}

// conform runs all cases.
func conform(t *testing.T, target string) {
	t.Helper()
	ran := 0
	if err := conformance.Run(t.Context(), conformance.Options{Target: target}, func(r conformance.Result) {
		ran++
		if r.Outcome == conformance.Fail {
			var b strings.Builder
			_ = r.Text(&b)
			t.Error(b.String())
		}
	}); err != nil {
		t.Fatal(err)
	}
	if ran != len(conformance.Cases()) {
		t.Errorf("%d cases of %d have run", ran, len(conformance.Cases()))
	}
}
