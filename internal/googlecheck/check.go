package googlecheck

import (
	"context"
	"slices"
)

// Check is an open fact about Google, and the way to see whether it holds.
type Check struct {
	Name     string // SUBJECT/FACT, as in docs/facts.md
	Expected string // what Google answers if the fact holds
	Source   string // why that is expected
	run      run
}

// run returns Google's answer and whether it is the expected one. The error is a
// [notApplicable], or a reason why Google could not be asked.
type run func(context.Context, *scratch) (observed string, holds bool, err error)

// Outcome is the result of a check.
type Outcome string

// The outcomes.
const (
	Expected      Outcome = "expected"
	Different     Outcome = "DIFFERENT"
	NotApplicable Outcome = "n/a"
	Failed        Outcome = "ERROR" // Google could not be asked
)

// Result is the result of one check.
type Result struct {
	Check
	Outcome  Outcome
	Observed string // Google's answer, the reason why there is none, or the command to run instead
}

// notApplicable is the reason why a check does not apply, with a command that helps.
type notApplicable string

func (n notApplicable) Error() string { return string(n) }

// Checks returns all checks in the order in which [Run] runs them.
func Checks() []Check {
	return slices.Concat(roleChecks(), policyChecks(), quotaChecks(), federationChecks(), providerChecks(), apiChecks(), serverChecks())
}
