package fakegoogle_test

import (
	"testing"

	"gke-metadata-emulator/fakegoogle"
)

// The start of a test that needs a Google.
func ExampleStart() {
	var t *testing.T // of the test

	google := fakegoogle.Start(t, fakegoogle.Options{})
	google.Bind("cart@demo.iam.gserviceaccount.com", "roles/iam.serviceAccountTokenCreator", "user:dev@example.com")

	// A credentials file for the code under test, whose --iam-credentials-endpoint
	// is google.URL.
	_ = google.AuthorizedUser("dev@example.com", google.URL+"/token")

	// Then let Google's service fail twice, and see what the code makes of it.
	google.SetFault(fakegoogle.MethodGenerateAccessToken, fakegoogle.Fault{Status: 503, Times: 2})
}
