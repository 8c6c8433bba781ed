// Package daemon answers one question: which components does a command run, how are they
// connected, and in which order do they start and end?
//
// Each command is a function that takes settings of package config, completed. It calls
// one constructor for each component and owns the components' lifetime. Errors are
// returned; nothing here ends the process.
//
// The package must not know flags, their defaults, or how settings are checked.
package daemon
