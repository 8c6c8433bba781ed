package integration

import (
	"regexp"
	"strings"
	"testing"
)

const (
	fleetPool       = projectID + ".svc.id.goog"
	membership      = "projects/" + projectID + "/locations/global/memberships/cluster-1"
	registerCommand = `gcloud container fleet memberships register cluster-1 --project=` + projectID +
		` --location=global --context="$(kubectl config current-context)" --enable-workload-identity --has-private-issuer`
	describeCommand = "gcloud container fleet memberships describe " + membership
)

// The commands of Google's page "Authenticate to Google Cloud APIs from GKE workloads"
// (docs.cloud.google.com/kubernetes-engine/docs/how-to/workload-identity#kubernetes-sa-to-iam),
// word for word, as of 2024. Google wrote them for clusters of GKE.
const (
	bindCommand = `gcloud iam service-accounts add-iam-policy-binding IAM_SA_NAME@IAM_SA_PROJECT_ID.iam.gserviceaccount.com \
    --role roles/iam.workloadIdentityUser \
    --member "serviceAccount:PROJECT_ID.svc.id.goog[NAMESPACE/KSA_NAME]"`
	annotateCommand = `kubectl annotate serviceaccount KSA_NAME \
    --namespace NAMESPACE \
    iam.gke.io/gcp-service-account=IAM_SA_NAME@IAM_SA_PROJECT_ID.iam.gserviceaccount.com`
)

// commandPlaceholder is a word of those commands that their reader replaces.
var commandPlaceholder = regexp.MustCompile(`\b[A-Z]+(_[A-Z]+)*\b`)

// filledIn turns the placeholders into shell variables.
func filledIn(command string) string { return commandPlaceholder.ReplaceAllString(command, `$$$0`) }

// GKE's own commands work unchanged as soon as the cluster is registered with a fleet: for the
// KSA that they name, in that cluster, until its signing key changes.
func TestFleet_GKEsCommandsGiveKSAItsGSA(t *testing.T) {
	f := startFleet(t)
	registered, stranger := newFleetCluster(t, f), newFleetCluster(t, f)
	n := registered.startDaemon(t)
	app, other := registered.runPod(t, n, "app", "127.0.1.1"), registered.runPod(t, n, "other", "127.0.1.2")
	registered.succeeds(t, "app", filledIn(annotateCommand))
	registered.succeeds(t, "other", filledIn(annotateCommand))

	registered.fails(t, "app", filledIn(bindCommand), "INVALID_ARGUMENT: Identity Pool does not exist ("+fleetPool+"). "+
		"Please check that you specified a valid resource name as returned in the `name` attribute in the configuration API.")
	app.untilRefused(describeCommand)
	registered.fails(t, "", describeCommand, "NOT_FOUND")

	registered.succeeds(t, "", registerCommand)
	state := registered.succeeds(t, "", describeCommand+" --format='value(authority.identityProvider, authority.workloadIdentityPool)'")
	if want := "https://gkehub.googleapis.com/" + membership + "\t" + fleetPool; strings.TrimSpace(state) != want {
		t.Errorf("the membership is %q, want %q", state, want)
	}
	registered.succeeds(t, "app", filledIn(bindCommand))
	app.untilGranted()
	other.untilRefused(`--member="serviceAccount:` + fleetPool + `[shop/other]"`)

	strangers := stranger.startDaemon(t)
	app = stranger.runPod(t, strangers, "app", "127.0.1.3")
	stranger.succeeds(t, "app", filledIn(annotateCommand))
	app.untilRefused(registerCommand)

	n.stop() // and with it its cached tokens
	registered.rotate(t)
	app = registered.pod(t, registered.startDaemon(t), "127.0.1.1")
	app.untilRefused(registerCommand)
	registered.removeAgent(t)
	registered.succeeds(t, "", registerCommand)
	app.untilGranted()
}
