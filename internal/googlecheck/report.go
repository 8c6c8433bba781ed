package googlecheck

import (
	"fmt"
	"io"
)

// Text prints a result. A different answer is printed with the expected one and its
// source.
func (r Result) Text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%-9s  %s\n", r.Outcome, r.Name)
	switch {
	case err != nil:
	case r.Outcome == Expected || r.Outcome == NotApplicable:
		_, err = fmt.Fprintf(w, "           %s\n", r.Observed)
	default:
		_, err = fmt.Fprintf(w, "           from      %s\n           expected  %s\n           observed  %s\n", r.Source, r.Expected, r.Observed)
	}
	return err
}
