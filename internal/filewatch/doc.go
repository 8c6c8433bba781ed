// Package filewatch answers one question: has the content of a configuration file
// changed, and is the new content valid?
//
// A [Watcher] polls the file. Kubernetes replaces the files of a mounted ConfigMap by
// swapping a symbolic link, and does so up to a minute late, so inotify would add
// cases to handle but no speed. Invalid content is refused and the previous value
// stays in effect.
//
// The package must not know what the file configures.
package filewatch
