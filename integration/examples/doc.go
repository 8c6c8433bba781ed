// Package examples is the fixture in which the examples of the product run as their users
// run them: in a real cluster, against stand-ins for the services that the users' jobs talk
// to, with the commands of the examples' own READMEs.
//
// It answers one question: what exists before a reader opens an example's README? It must
// not know what an example does; the examples' tests, one file each, do.
//
// A workload in the [Fixture] is unmodified. It resolves storage.googleapis.com and other
// names with the cluster's DNS to one listener for all of them, and trusts its certificates
// by [Fixture.CAFile] in its image. The same is true of the product: it is installed without
// any address of Google's in its settings.
package examples
