package dns

import "fmt"

// Reason is the reason why a configuration is refused.
type Reason int

// The reasons.
const (
	NotUnderstood Reason = iota + 1 // a block cannot be added safely
	Taken                           // another server block answers for one of the names
	Damaged                         // the marks around our block have been changed
)

// Error is a refusal. The configuration is unchanged.
type Error struct {
	Reason  Reason
	File    string // Corefile, or a key of the custom ConfigMap
	Line    int    // 0 if the error concerns the whole file
	Message string // the problem and the remedy
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
