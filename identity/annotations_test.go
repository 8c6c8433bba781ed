package identity

import (
	"strings"
	"testing"
)

func TestEveryAddressThatGoogleGivesAServiceAccountIsLegal(t *testing.T) {
	for _, email := range []string{
		"cart@shop-project.iam.gserviceaccount.com",
		"998877665544-compute@developer.gserviceaccount.com",
		"shop-project@appspot.gserviceaccount.com",
		"cart@shop-project.example.com.iam.gserviceaccount.com",
		"shop-project.example.com@appspot.gserviceaccount.com",
		"service-998877665544@gcp-sa-pubsub.iam.gserviceaccount.com",
		"998877665544@cloudservices.gserviceaccount.com",
		"998877665544@cloudbuild.gserviceaccount.com",
		"a.b_c-D@P1.iam.gserviceaccount.com",
		strings.Repeat("a", 254-len("@p.iam.gserviceaccount.com")) + "@p.iam.gserviceaccount.com",
	} {
		if !ValidGSA(email) {
			t.Errorf("%s is refused", email)
		}
	}
}

func TestWhatIsNoAddressIsIllegal(t *testing.T) {
	const good = "cart@shop-project.iam.gserviceaccount.com"
	for _, email := range []string{
		"", "cart", "@", "cart@", "@shop-project.iam.gserviceaccount.com", "cart@localhost",
		" " + good, good + " ", good + "\n", "\n" + good, good + "\x00", good + "\nX-Header: y",
		"../../other", "a/../b@p.iam.gserviceaccount.com", "cart@p/../q.iam.gserviceaccount.com", "cart@p.iam.gserviceaccount.com/keys",
		good + ":signBlob", good + "?x=y", good + "#x", "cart%2f@p.iam.gserviceaccount.com", "a:b@p.iam.gserviceaccount.com",
		"cart@a@p.iam.gserviceaccount.com", "cart@p..gserviceaccount.com", "cart@.iam.gserviceaccount.com", "cart@p.iam.gserviceaccount.com.",
		"-cart@p.iam.gserviceaccount.com", ".@p.iam.gserviceaccount.com", "..@p.iam.gserviceaccount.com",
		"cärt@p.iam.gserviceaccount.com", "cart@p.iam.gserviceaccоunt.com", // a Cyrillic о
		good + "," + good, `"cart"@p.iam.gserviceaccount.com`, "[GSA_NAME]@[PROJECT_ID].iam.gserviceaccount.com",
		strings.Repeat("a", 255-len("@p.iam.gserviceaccount.com")) + "@p.iam.gserviceaccount.com",
	} {
		if ValidGSA(email) {
			t.Errorf("%q is legal", email)
		}
	}
}

func TestAnnotationsThatGKEHonours(t *testing.T) {
	for name, of := range map[string]struct {
		annotations map[string]string
		want        Workload
	}{
		"none":       {nil, Workload{}},
		"all":        {map[string]string{AnnotationGSA: gsa, AnnotationQuotaProject: "quota", AnnotationPrincipalEmail: "true"}, Workload{GSA: gsa, QuotaProject: "quota", PrincipalEmail: true}},
		"empty":      {map[string]string{AnnotationGSA: "", AnnotationPrincipalEmail: ""}, Workload{}},
		"not true":   {map[string]string{AnnotationPrincipalEmail: "false"}, Workload{}},
		"others'":    {map[string]string{"iam.gke.io/gcp-service-accounts": gsa}, Workload{}},
		"delegates":  {map[string]string{AnnotationGSA: gsa, AnnotationDelegates: `["a@p.iam.gserviceaccount.com", "b@p.iam.gserviceaccount.com"]`}, Workload{GSA: gsa, Delegates: "a@p.iam.gserviceaccount.com,b@p.iam.gserviceaccount.com"}},
		"no list":    {map[string]string{AnnotationGSA: gsa, AnnotationDelegates: `[]`}, Workload{GSA: gsa}},
		"to nobody":  {map[string]string{AnnotationDelegates: `["a@p.iam.gserviceaccount.com"]`}, Workload{}},
		"taken away": {map[string]string{}, Workload{}},
	} {
		var w Workload
		if err := w.annotated(of.annotations); err != nil || w != of.want {
			t.Errorf("%s: %+v, %v, want %+v", name, w, err, of.want)
		}
	}
}

func TestIllegalAnnotationIsToldWithItsRemedy(t *testing.T) {
	w := Workload{KSA: ServiceAccount{Namespace: "shop", Name: "cart"}}
	err := w.annotated(map[string]string{AnnotationGSA: "not an address"})
	wantError(t, err, BadAnnotation, `"not an address"`, "kubectl annotate serviceaccount --overwrite --namespace shop cart iam.gke.io/gcp-service-account=")
	for _, project := range []string{"Billing", "a b", "a\nX-Header: y", "-a", "a/b", strings.Repeat("a", 255)} {
		err := w.annotated(map[string]string{AnnotationGSA: gsa, AnnotationQuotaProject: project})
		wantError(t, err, BadAnnotation, "is not the ID of a Google project", "shop cart iam.gke.io/credential-quota-project=PROJECT_ID")
		if w.QuotaProject != "" {
			t.Errorf("the workload has it all the same: %s", w.QuotaProject)
		}
	}
	if err := w.annotated(map[string]string{AnnotationQuotaProject: "example.com:billing-1"}); err != nil || w.QuotaProject != "example.com:billing-1" {
		t.Errorf("%s, %v", w.QuotaProject, err)
	}
	if w.GSA != "" {
		t.Errorf("the workload has it all the same: %s", w.GSA)
	}
	for _, list := range []string{"a@p.iam.gserviceaccount.com", `["a"]`, `["a@p.iam.gserviceaccount.com,b@p.iam.gserviceaccount.com"]`, `[1]`, `{}`, `["a@p.iam.gserviceaccount.com"`,
		"[" + strings.Repeat(`"a@p.iam.gserviceaccount.com",`, 8) + `"a@p.iam.gserviceaccount.com"]`} {
		err := w.annotated(map[string]string{AnnotationGSA: gsa, AnnotationDelegates: list})
		wantError(t, err, BadAnnotation, "is not a JSON list", "shop cart iam.gke.io/gcp-service-account-delegates=")
		if w.Delegates != "" || w.GSA != "" {
			t.Errorf("%s: reached all the same: %s through %s", list, w.GSA, w.Delegates)
		}
	}
}
