package identity

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

func TestValidGSA_AcceptsAllFormsOfGoogle(t *testing.T) {
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
			t.Errorf("%s is rejected", email)
		}
	}
}

func TestValidGSA_RejectsOtherText(t *testing.T) {
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
			t.Errorf("%q is accepted", email)
		}
	}
}

func TestAnnotations_AreParsedLikeOnGKE(t *testing.T) {
	for name, test := range map[string]struct {
		annotations map[string]string
		want        Workload
	}{
		"none":      {nil, Workload{}},
		"all":       {map[string]string{AnnotationGSA: gsa, AnnotationQuotaProject: "quota", AnnotationPrincipalEmail: "true"}, Workload{GSA: gsa, QuotaProject: "quota", PrincipalEmail: true}},
		"empty":     {map[string]string{AnnotationGSA: "", AnnotationPrincipalEmail: ""}, Workload{}},
		"not true":  {map[string]string{AnnotationPrincipalEmail: "false"}, Workload{}},
		"unknown":   {map[string]string{"iam.gke.io/gcp-service-accounts": gsa}, Workload{}},
		"delegates": {map[string]string{AnnotationGSA: gsa, AnnotationDelegates: `["a@p.iam.gserviceaccount.com", "b@p.iam.gserviceaccount.com"]`}, Workload{GSA: gsa, Delegates: "a@p.iam.gserviceaccount.com,b@p.iam.gserviceaccount.com"}},
		"no list":   {map[string]string{AnnotationGSA: gsa, AnnotationDelegates: `[]`}, Workload{GSA: gsa}},
		"no GSA":    {map[string]string{AnnotationDelegates: `["a@p.iam.gserviceaccount.com"]`}, Workload{}},
		"removed":   {map[string]string{}, Workload{}},
	} {
		var w Workload
		if err := w.parseAnnotations(test.annotations); err != nil || w != test.want {
			t.Errorf("%s: %+v, %v, want %+v", name, w, err, test.want)
		}
	}
}

func TestAnnotations_InvalidValueIsErrorWithRemedy(t *testing.T) {
	w := Workload{KSA: ServiceAccount{Namespace: "shop", Name: "cart"}}
	err := w.parseAnnotations(map[string]string{AnnotationGSA: "not an address"})
	wantError(t, err, BadAnnotation, `"not an address"`, "kubectl annotate serviceaccount --overwrite --namespace shop cart iam.gke.io/gcp-service-account=")
	for _, project := range []string{"Billing", "a b", "a\nX-Header: y", "-a", "a/b", strings.Repeat("a", 255)} {
		err := w.parseAnnotations(map[string]string{AnnotationGSA: gsa, AnnotationQuotaProject: project})
		wantError(t, err, BadAnnotation, "is not the ID of a Google project", "shop cart iam.gke.io/credential-quota-project=PROJECT_ID")
		if w.QuotaProject != "" {
			t.Errorf("the workload has the invalid value %s", w.QuotaProject)
		}
	}
	if err := w.parseAnnotations(map[string]string{AnnotationQuotaProject: "example.com:billing-1"}); err != nil || w.QuotaProject != "example.com:billing-1" {
		t.Errorf("%s, %v", w.QuotaProject, err)
	}
	if w.GSA != "" {
		t.Errorf("the workload has the GSA %s", w.GSA)
	}
	for _, list := range []string{"a@p.iam.gserviceaccount.com", `["a"]`, `["a@p.iam.gserviceaccount.com,b@p.iam.gserviceaccount.com"]`, `[1]`, `{}`, `["a@p.iam.gserviceaccount.com"`,
		"[" + strings.Repeat(`"a@p.iam.gserviceaccount.com",`, 8) + `"a@p.iam.gserviceaccount.com"]`} {
		err := w.parseAnnotations(map[string]string{AnnotationGSA: gsa, AnnotationDelegates: list})
		wantError(t, err, BadAnnotation, "is not a JSON list", "shop cart iam.gke.io/gcp-service-account-delegates=")
		if w.Delegates != "" || w.GSA != "" {
			t.Errorf("%s: the workload has the GSA %s and the delegates %s", list, w.GSA, w.Delegates)
		}
	}
}

// A pod without this annotation gets tokens, so a pod with a misspelt one does, too.
func TestAnnotations_MisspeltTrueIsIgnoredWithWarning(t *testing.T) {
	for value, want := range map[string]bool{"true": false, "false": false, "": false, "True": true, "TRUE": true, " true": true, "true\n": true, "“true”": true, "1": true, "yes": true} {
		w := Workload{KSA: ServiceAccount{Namespace: "shop", Name: "cart"}}
		if err := w.parseAnnotations(map[string]string{AnnotationGSA: gsa, AnnotationPrincipalEmail: value}); err != nil || w.GSA != gsa || w.PrincipalEmail != (value == "true") {
			t.Errorf("%q: %+v, %v", value, w, err)
		}
		message := "annotation iam.gke.io/return-principal-id-as-email=" + strconv.Quote(value) + " of service account shop/cart is not true or false, and is ignored: " +
			"kubectl annotate serviceaccount --overwrite --namespace shop cart iam.gke.io/return-principal-id-as-email=true"
		if want != (w.Warning == message) || !want && w.Warning != "" {
			t.Errorf("%q: warning %q, want %t", value, w.Warning, want)
		}
		if err := w.parseAnnotations(nil); err != nil || w.Warning != "" {
			t.Errorf("%q: without the annotation: %q, %v", value, w.Warning, err)
		}
	}
}

// Every annotation of the source changes the workload of a KSA, so none is declared and
// forgotten by the parser.
func TestAnnotations_AllAreParsed(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "annotations.go", nil, 0)
	check(t, err)
	var keys []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Annotation") {
			keys = append(keys, must(strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)))
		}
		return true
	})
	valid := map[string]string{
		AnnotationGSA: gsa, AnnotationDelegates: `["a@p.iam.gserviceaccount.com"]`, AnnotationQuotaProject: "quota", AnnotationPrincipalEmail: "true",
	}
	if len(keys) != len(valid) {
		t.Errorf("the source has the annotations %v, the test has values of %v", keys, valid)
	}
	for _, key := range keys {
		with := must(parseAccount(newAccount("shop", "cart", AnnotationGSA, gsa, key, valid[key]))).(*account).workload
		var without Workload
		if key != AnnotationGSA {
			without = must(parseAccount(newAccount("shop", "cart", AnnotationGSA, gsa))).(*account).workload
		}
		if with == without || with.GSA != gsa {
			t.Errorf("%s is read as %+v", key, with)
		}
	}
}

// An annotation can have 256 KiB, and its error is in every response, event and log line.
func TestAnnotations_ErrorQuotesOnlyBeginningOfValue(t *testing.T) {
	for _, key := range []string{AnnotationGSA, AnnotationPrincipalEmail} {
		ksa := must(parseAccount(newAccount("shop", "cart", key, strings.Repeat("\x01", 255<<10)))).(*account)
		text := ksa.workload.Warning
		if ksa.err != nil {
			text = ksa.err.Error()
		}
		if len(text) == 0 || len(text) > 2048 {
			t.Errorf("%s: a message of %d bytes", key, len(text))
		}
	}
}
