package dns

import "fmt"

// Reason is why a configuration is left as it is.
type Reason int

// The reasons.
const (
	NotUnderstood Reason = iota + 1 // a Corefile that nothing can be added to for sure
	Taken                           // somebody else answers for one of the names
	Damaged                         // our own marks have been changed
)

// Error is a refusal. Nothing has been changed.
type Error struct {
	Reason  Reason
	File    string // Corefile, or a key of the custom ConfigMap
	Line    int    // 0 where it is about the whole file
	Message string // says what to do, too
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Message)
	}
	return fmt.Sprintf("%s, line %d: %s", e.File, e.Line, e.Message)
}

func refuse(reason Reason, file string, line int, message string, args ...any) error {
	return &Error{Reason: reason, File: file, Line: line, Message: fmt.Sprintf(message, args...)}
}
