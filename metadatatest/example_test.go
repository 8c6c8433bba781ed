package metadatatest_test

import (
	"context"
	"fmt"
	"log"
	"testing"

	"cloud.google.com/go/compute/metadata"

	"gke-metadata-emulator/metadatatest"
)

// A unit test begins like this.
func ExampleNew() {
	var t *testing.T // the argument of the test

	_ = func() {
		srv := metadatatest.New(t, metadatatest.Link("default/default", "cart@shop-project.iam.gserviceaccount.com"))
		srv.FailNext(1, 503) // does the code under test retry?
	}
}

// A server without a test, for example in TestMain.
func ExampleStart() {
	srv, err := metadatatest.Start(metadatatest.Link("default/default", "cart@shop-project.iam.gserviceaccount.com"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = srv.Close() }()

	email, err := metadata.NewClient(srv.Client()).EmailWithContext(context.Background(), "")
	fmt.Println(email, err)
	// Output: cart@shop-project.iam.gserviceaccount.com <nil>
}
