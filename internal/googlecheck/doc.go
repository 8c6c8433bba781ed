// Package googlecheck answers one question: do the facts about Google hold on which this
// program relies, and that nobody has published?
//
// [Checks] is a table of these facts, the open ones of docs/facts.md. [Run] sets up a
// service account and a workload identity pool in a scratch project, asks Google, reports
// an expected or a different answer for each, and removes everything again. It needs no
// cluster, as it signs the tokens of a KSA itself; one more fact is checked if there is
// one. The result of a check that was not permitted names the flag that permits it. The
// package must not know how flags are parsed or where credentials come from.
package googlecheck
