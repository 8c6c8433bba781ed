// Package dmi answers one question: which DMI product name do new containers of the
// node see?
//
// It must not know of pods, identities or tokens.
package dmi
