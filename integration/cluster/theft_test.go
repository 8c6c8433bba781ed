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

// A pod of the same node and bridge as another, which it pretends to be.
var thefts = []struct {
	name       string
	how        string
	capability corev1.Capability
}{
	{"packets made up with another pod's address", "forge", "NET_RAW"},
	{"a connection from another pod's address", "assume", "NET_ADMIN"},
}

// theft tries for each policy of attestation what a pod gets in the name of
// another one. What ip gives away is known.
func theft(t *testing.T, l *loaded, m *matrix) {
	for _, policy := range []string{"require", "prefer", "ip"} {
		t.Run("attestation="+policy, func(t *testing.T) {
			e := l.install(t, routingMode{name: "address", settings: []string{"GME_ATTESTATION=" + policy}})
			for _, of := range thefts {
				t.Run(of.how, func(t *testing.T) {
					e := e.in(t)
					t.Cleanup(func() { m.ranOnce(e, "--attestation="+policy, "nothing stolen by "+of.name) })
					victim, thief := e.victim(t), e.Namespace(t)
					gsa := e.KSA(t, thief, "thief")
					got := e.steal(t, thief, of.how, of.capability, victim)
					stolen := e.Right(got.token, victim.gsa) == nil
					switch {
					case stolen:
						e.note = "the token of the pod whose address it is"
					case got.token == "":
						e.note = got.status
					case e.Right(got.token, gsa) == nil:
						e.note = "the thief's own token"
					default:
						t.Errorf("a token of somebody else")
					}
					t.Logf("%s: %s %s", e.note, got.status, got.text)
					given := policy == "ip"
					if stolen != given {
						t.Errorf("the token was stolen: %v; expected: %v", stolen, given)
					}
					if stolen {
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

// victim has a token when it is ready, and goes on to live.
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

type stolen struct{ status, token, text string }

func (e *environment) steal(t *testing.T, namespace, how string, capability corev1.Capability, from victim) stolen {
	t.Helper()
	spec := podSpec("thief", from.node, "")
	spec.Containers[0].Image = thiefImage
	spec.Containers[0].Args = []string{how, from.address}
	spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{capability}}}
	e.pod(namespace, "thief", spec)
	var loot struct{ Answer, Failed string }
	if err := e.ends(podWithin, namespace, "thief", func(left string) error { return parse([]byte(left), &loot) }); err != nil {
		t.Fatal(err)
	}
	if loot.Failed != "" {
		t.Fatalf("the thief had no answer: %s", loot.Failed)
	}
	response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(loot.Answer)), nil)
	if err != nil {
		t.Fatalf("%v: %q", err, loot.Answer)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	s := stolen{status: response.Status, text: string(body)}
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
