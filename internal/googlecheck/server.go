package googlecheck

import "context"

// serverChecks are about GKE's metadata server, so they need a pod on GKE. Each tells the
// command that shows the answer.
func serverChecks() []Check {
	const server = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/"
	curl := func(ksa, path string) string {
		return "run verify --rm -it --restart=Never --image=curlimages/curl --overrides='{\"spec\":{\"serviceAccountName\":\"" + ksa + "\"}}' -- " +
			"-sS -i -H 'Metadata-Flavor: Google' " + server + path
	}
	return []Check{
		{"server/e-mail of a linked KSA with return-principal-id-as-email", "the GSA's address",
			"cloudnative-pg/cloudnative-pg#5370; the how-to of GKE can be read otherwise",
			onGKE(curl("LINKED_AND_ANNOTATED_KSA", "default/email"))},
		{"server/status of a GSA that does not exist", "403 or 404 with IAM's text",
			"inferred from the refusal of a missing binding",
			onGKE(curl("KSA_ANNOTATED_WITH_A_MISSING_GSA", "default/token"))},
		{"server/wire details", "no case of the conformance command fails, once per kind of KSA",
			"docs/conformance.md names the source of each case",
			onGKE("run conformance --rm -it --restart=Never --image=REGISTRY/gke-metadata-emulator -- conformance")},
	}
}

func onGKE(command string) run {
	return func(context.Context, *scratch) (string, bool, error) {
		return "", false, notApplicable("it needs a pod on GKE; run there: kubectl " + command)
	}
}
