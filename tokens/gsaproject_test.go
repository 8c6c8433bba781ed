package tokens

import "testing"

func TestGSAProject_IsThatOfTheAddress(t *testing.T) {
	for email, want := range map[string]string{
		"cart@shop-project.iam.gserviceaccount.com":             "shop-project",
		"cart@shop-project.example.com.iam.gserviceaccount.com": "example.com:shop-project",
		"Cart@Shop-Project.iam.gserviceaccount.com":             "shop-project",
		"shop-project@appspot.gserviceaccount.com":              "shop-project",
		"shop-project.example.com@appspot.gserviceaccount.com":  "example.com:shop-project",
		"123456-compute@developer.gserviceaccount.com":          "",
		"123456@cloudservices.gserviceaccount.com":              "",
		"cart@iam.gserviceaccount.com":                          "",
		"cart@shop-project.iam.gserviceaccount.com.example":     "",
		"cart": "",
		"":     "",
	} {
		if got := gsaProject(email); got != want {
			t.Errorf("project of %q: %q, want %q", email, got, want)
		}
	}
}
