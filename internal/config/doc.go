// Package config answers one question: which settings does a command have, and are they
// right?
//
// A command is a struct: [Serve], [Standalone], [FakeGoogle], [Conformance], [Probe],
// [Cleanup], [DNSEdit], [DNSStatus] and [VerifyGoogle]. Each returns its flags in groups
// ([Settings]) and completes itself: it fills in the defaults that follow from other
// settings, and returns a [*FlagError] for the first setting that is wrong or contradicts
// another.
//
// Settings that belong together are one struct in one file: the fields, the flags with
// their help, and the check. A new setting is an edit of that file alone. The help
// output, docs/flags.md, the environment variables and the schema of the Helm chart are
// all derived from the flags, so flags state their type: [Choices] and [Pattern].
//
// Methods with the prefix Read read a file that a setting names, and return its content
// parsed. Complete reads no file.
//
// The package must not know what the commands do: it starts nothing, connects to nothing
// and logs nothing.
package config
