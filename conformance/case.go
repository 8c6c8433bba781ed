package conformance

import "slices"

// Truth says how what a case expects is known.
type Truth string

// The kinds of truth, the firmest first.
const (
	Documented Truth = "documented" // Google's documentation says it
	Client     Truth = "client"     // a client needs it: its source was read, or it was run
	Observed   Truth = "observed"   // somebody has published what a real server answered
	Inferred   Truth = "inferred"   // it follows from the others, or nothing says otherwise
)

// Truths are all kinds.
func Truths() []Truth { return []Truth{Documented, Client, Observed, Inferred} }

// Case is one thing that is true of a metadata server.
type Case struct {
	Name   string // subject/what
	Truth  Truth
	Source string // what was read: a document's title, a client with its version, a capture
	check  check
}

// check asks the server. It returns nil, a [*mismatch] or [notApplicable].
type check func(*session) error

// Cases are all, in the order in which they are run.
func Cases() []Case {
	return slices.Concat(
		rootCases(), headerCases(), valueCases(), listingCases(), directoryCases(), recursiveCases(), parameterCases(),
		refusalCases(), absentCases(), accountCases(), tokenCases(), identityCases(), waitingCases(), robustnessCases(),
	)
}

// The documents that most cases refer to by their titles.
const (
	queryDoc = `"View and query VM metadata"`
	keysDoc  = `"Predefined metadata keys"`
	gkeDoc   = `"About Workload Identity Federation for GKE"`

	vmIdentityDoc = `"Verify VM identity"`
)

// mismatch is an answer that is not as expected.
type mismatch struct{ request, expected, seen string }

func (m *mismatch) Error() string { return "expected " + m.expected }

// notApplicable is why a case says nothing of this server.
type notApplicable string

func (n notApplicable) Error() string { return string(n) }

// asks is the check of one request.
func asks(request string, expectations ...expectation) check {
	return func(s *session) error { return s.expect(s.ask(request), expectations...) }
}

// only is a check for one kind of callers.
func only(kind caller, c check) check {
	return func(s *session) error {
		is, err := s.caller()
		if err != nil {
			return err
		}
		if is != kind {
			return notApplicable("the caller is " + string(is))
		}
		return c(s)
	}
}
