package metadatatest_test

import (
	"context"
	"fmt"
	"log"
	"testing"

	"cloud.google.com/go/compute/metadata"

	"gke-metadata-emulator/metadatatest"
)

// The start of a unit test.
func ExampleNew() {
	var t *testing.T // of the test

	_ = func() {
		srv := metadatatest.New(t, metadatatest.Link("default/default", "cart@shop-project.iam.gserviceaccount.com"))
		srv.FailNext(1, 503) // what does the code under test make of it?
	}
}

// Without a test: in TestMain, or here.
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
