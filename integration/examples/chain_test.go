package examples

import (
	"testing"

	"gke-metadata-emulator/integration/cluster/deployment"
)

func TestChain(t *testing.T) {
	const gsa = "a@" + ProjectID + ".iam.gserviceaccount.com"
	whole := Chain{KSA: "team/app", Through: []string{deployment.Principal("team", "app")}, Principal: "serviceAccount:" + gsa}
	if err := whole.Federated("team", "app", gsa); err != nil {
		t.Error(err)
	}
	if want := "KSA team/app → " + deployment.Principal("team", "app") + " → serviceAccount:" + gsa; whole.String() != want {
		t.Errorf("%s, want %s", whole, want)
	}
	for name, err := range map[string]error{
		"other KSA":       whole.Federated("team", "other", gsa),
		"other namespace": whole.Federated("other", "app", gsa),
		"other GSA":       whole.Federated("team", "app", "b@"+ProjectID+".iam.gserviceaccount.com"),
		"no GSA":          whole.Federated("team", "app", ""),
		"no operator":     whole.Impersonated(gsa),
		"no federation":   Chain{KSA: "team/app", Principal: "serviceAccount:" + gsa}.Federated("team", "app", gsa),
	} {
		if err == nil {
			t.Errorf("%s: the chain is taken", name)
		}
	}
}
