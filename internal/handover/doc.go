// Package handover answers one question: how does an instance's state reach the next
// instance on the node, and no other program?
//
// A [File] holds bytes that are sealed with a key, in the machine's memory and never
// on a disk. A file that does not open, or is too old, is treated as missing. A
// [Keeper] keeps the file up to date with the owner of the state.
//
// The package must not know what the bytes mean. The caller says under which settings
// they are valid, and only gets them back under the same ones.
package handover
