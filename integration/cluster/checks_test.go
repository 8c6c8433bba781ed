package cluster_test

import (
	"slices"
	"testing"
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
			e.proved(ns, name)
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
		output := e.ended(ns, n.Name)
		if err := e.right(output, gsa); err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
		if output.Again > 0 {
			t.Errorf("%s: asked %d times more, on idle nodes", n.Name, output.Again)
		}
		t.Logf("%s: %s from the program's start", n.Name, output.Took)
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
