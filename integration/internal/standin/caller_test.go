package standin_test

import (
	"testing"

	"gke-metadata-emulator/integration/internal/standin"
	"gke-metadata-emulator/integration/internal/standintest"
)

func TestTokens_LookUpCaller(t *testing.T) {
	google := standintest.Start(t)
	const gsa = "cart@demo-project.iam.gserviceaccount.com"
	token := google.Token(t, "shop", "cart", gsa, standintest.CloudPlatform)
	tokens, err := standin.NewTokens(google.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	caller, err := tokens.Caller(t.Context(), token)
	if err != nil || caller == nil {
		t.Fatalf("%+v, %v", caller, err)
	}
	if caller.Principal != "serviceAccount:"+gsa || caller.KSA != "shop/cart" || !caller.HasScope("devstorage.read_only", "cloud-platform") || caller.HasScope("devstorage.read_only") {
		t.Errorf("caller %+v", caller)
	}
	if caller, err := tokens.Caller(t.Context(), "ya29.garbage"); caller != nil || err != nil {
		t.Errorf("unknown token: %+v, %v", caller, err)
	}
	elsewhere, err := standin.NewTokens(google.URL+"/elsewhere", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.Caller(t.Context(), token); err == nil {
		t.Error("a server that is no fakegoogle: no error")
	}
}

func TestRecords_ForgetTheOldest(t *testing.T) {
	records := standin.NewRecords[int](2)
	for i := range 3 {
		records.Add(i)
	}
	if all := records.All(); len(all) != 2 || all[0] != 1 || all[1] != 2 {
		t.Errorf("%v", all)
	}
}
