package cluster_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// spoofings are how a pod impersonates another one on the same node and bridge.
var spoofings = []struct {
	name       string
	method     string // argument of the spoofer
	capability corev1.Capability
}{
	{"forged packets with its address", "forge", "NET_RAW"},
	{"a connection from its address", "assume", "NET_ADMIN"},
}

// spoofing checks, for each attestation policy, which token a pod gets with the source
// address of another pod. With the policy ip it is known to get the other pod's token.
func spoofing(t *testing.T, l *loaded, m *matrix) {
	for _, policy := range []string{"require", "prefer", "ip"} {
		t.Run("attestation="+policy, func(t *testing.T) {
			e := l.install(t, routingMode{name: "address", settings: []string{"GME_ATTESTATION=" + policy}})
			for _, spoofed := range spoofings {
				t.Run(spoofed.method, func(t *testing.T) {
					e := e.in(t)
					t.Cleanup(func() { m.ranOnce(e, "--attestation="+policy, "no token of another pod for "+spoofed.name) })
					victim, ns := e.victim(t), e.Namespace(t)
					gsa := e.KSA(t, ns, "spoofer")
					got := e.spoof(t, ns, spoofed.method, spoofed.capability, victim)
					leaked := e.Right(got.token, victim.gsa) == nil
					switch {
					case leaked:
						e.note = "the other pod's token"
					case got.token == "":
						e.note = got.status
					case e.Right(got.token, gsa) == nil:
						e.note = "the spoofer's own token"
					default:
						t.Errorf("the token of an unrelated account")
					}
					t.Logf("%s: %s %s", e.note, got.status, got.text)
					expected := policy == "ip"
					if leaked != expected {
						t.Errorf("the other pod's token was returned: %v; expected: %v", leaked, expected)
					}
					if leaked {
						e.answer = "no"
					}
				})
			}
		})
	}
}

type victim struct {
	gsa     string
	node    string
	address string
}

// victim starts a pod that has a token and keeps running.
func (e *environment) victim(t *testing.T) victim {
	t.Helper()
	ns := e.Namespace(t)
	v := victim{gsa: e.KSA(t, ns, "victim"), node: e.Cluster.Nodes[0].Name}
	e.pod(ns, "victim", podSpec("victim", v.node, "serve"))
	e.ready(ns, "victim", "")
	pod, err := e.Cluster.Client.CoreV1().Pods(ns).Get(t.Context(), "victim", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v.address = pod.Status.PodIP
	return v
}

type spoofResult struct{ status, token, text string }

func (e *environment) spoof(t *testing.T, namespace, method string, capability corev1.Capability, target victim) spoofResult {
	t.Helper()
	spec := podSpec("spoofer", target.node, "")
	spec.Containers[0].Image = spooferImage
	spec.Containers[0].Args = []string{method, target.address}
	spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{capability}}}
	e.pod(namespace, "spoofer", spec)
	var result struct{ Answer, Failed string }
	if err := e.ends(podWithin, namespace, "spoofer", func(message string) error { return parse([]byte(message), &result) }); err != nil {
		t.Fatal(err)
	}
	if result.Failed != "" {
		t.Fatalf("the spoofer got no answer: %s", result.Failed)
	}
	response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(result.Answer)), nil)
	if err != nil {
		t.Fatalf("%v: %q", err, result.Answer)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	s := spoofResult{status: response.Status, text: string(body)}
	if response.StatusCode == http.StatusOK {
		var token struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal(body, &token); err != nil {
			t.Fatal(fmt.Errorf("%w: %q", err, body))
		}
		s.token, s.text = token.AccessToken, ""
	}
	return s
}
