package examples

import (
	"os"
	"testing"
)

// TestExamples runs each example in one fixture. To add one, write its test in a new file
// and add a line here.
func TestExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster; not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for namespaces and cgroups")
	}
	s := Up(t)
	for _, example := range []struct {
		name string
		run  func(*testing.T, *Fixture)
	}{
		{"fixture", fixtureWorks},
		{"ways", ways},
		{"gcs-upload", gcsUpload},
		{"kaniko", kaniko},
		{"on-prem", onPrem},
	} {
		t.Run(example.name, func(t *testing.T) { example.run(t, s) })
	}
}
