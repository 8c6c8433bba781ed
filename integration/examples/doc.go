// Package examples is the stage on which the examples of the product run as
// their users run them: in a real cluster, against stand-ins for what the users'
// jobs talk to, by the lines of the examples' own READMEs.
//
// It answers one question: what is there before an example's README is read? It
// must know nothing of what an example does; the examples' tests, one file each,
// do.
//
// A workload on the [Fixture] is unmodified. It finds storage.googleapis.com and
// the others by the cluster's DNS, where one listener answers for all of them,
// and trusts its certificates by [Fixture.CAFile] in its image. So does the product:
// it is installed without any address of Google's in its settings.
package examples
