// Package handover answers one question: how does what an instance knows get to the
// next one on the node, and to nobody else?
//
// A [File] holds bytes that are sealed with a key, in the machine's memory and never
// on a disk. What does not open, or is too old, is as good as none.
//
// The package knows nothing of what the bytes are, and nothing of tokens. Under what
// they were true the caller says, and gets them back under the same only.
package handover
