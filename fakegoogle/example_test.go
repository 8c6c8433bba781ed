package fakegoogle_test

import (
	"testing"

	"gke-metadata-emulator/fakegoogle"
)

// A test that needs a Google begins like this.
func ExampleStart() {
	var t *testing.T // the argument of the test

	google := fakegoogle.Start(t, fakegoogle.Options{})
	google.Bind("cart@demo.iam.gserviceaccount.com", "roles/iam.serviceAccountTokenCreator", "user:dev@example.com")

	// A credentials file for the code under test, whose --iam-credentials-endpoint
	// is google.URL.
	_ = google.AuthorizedUser("dev@example.com", google.URL+"/token")

	// Google's service fails twice: does the code under test retry?
	google.SetFault(fakegoogle.MethodGenerateAccessToken, fakegoogle.Fault{Status: 503, Times: 2})
}
