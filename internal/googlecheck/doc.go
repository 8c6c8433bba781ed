// Package googlecheck answers one question: do the facts about Google hold on which this
// program relies, and that nobody has published?
//
// [Checks] is a table of these facts, the open ones of docs/facts.md. [Run] sets up a
// service account and a workload identity pool in a scratch project, asks Google, reports
// an expected or a different answer for each, and removes everything again. It needs no
// cluster: it signs the tokens of a KSA itself. It must not know flags or where credentials
// come from.
package googlecheck
