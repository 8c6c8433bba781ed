// Package daemon wires the packages into the programs that main starts: it checks
// the settings, calls one constructor for each component, and owns their life from
// the first to the last. Errors are returned; nothing here ends the process.
package daemon
