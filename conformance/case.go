package conformance

import "slices"

// Truth is the kind of evidence for the expectation of a case.
type Truth string

// The kinds of evidence, the strongest first.
const (
	Documented Truth = "documented" // it is in Google's documentation
	Client     Truth = "client"     // a client needs it: its source was read, or it was run
	Observed   Truth = "observed"   // a real server's answer has been published
	Inferred   Truth = "inferred"   // it follows from the others, or no source contradicts it
)

// Truths returns all kinds of evidence, the strongest first.
func Truths() []Truth { return []Truth{Documented, Client, Observed, Inferred} }

// Case is one fact about a metadata server.
type Case struct {
	Name   string // SUBJECT/FACT
	Truth  Truth
	Source string // a document's title, a client with its version, or a published capture
	// AsOf is the month of the source, as in 2026-06. Each case about an absent key has
	// one: Google adds keys, and such a case fails on GKE from then on.
	AsOf  string
	check check
}

// Evidence returns the source with its month, if the case has one.
func (c Case) Evidence() string {
	if c.AsOf == "" {
		return c.Source
	}
	return c.Source + "; as of " + c.AsOf
}

// row is a [Case] in the tables: most have no month.
type row struct {
	Name   string
	Truth  Truth
	Source string
	check  check
}

// check sends requests to the server. It returns nil, a [*mismatch] or
// [notApplicable].
type check func(*session) error

// Cases returns all cases in the order in which [Run] runs them.
func Cases() []Case {
	return slices.Concat(
		undated(rootCases(), headerCases(), valueCases(), listingCases(), directoryCases(), recursiveCases(), parameterCases(), refusalCases()),
		absentCases(),
		undated(accountCases(), tokenCases(), identityCases(), waitingCases(), robustnessCases()),
	)
}

func undated(tables ...[]row) []Case {
	var cases []Case
	for _, r := range slices.Concat(tables...) {
		cases = append(cases, Case{Name: r.Name, Truth: r.Truth, Source: r.Source, check: r.check})
	}
	return cases
}

// The titles of Google's documents that are the source of most cases.
const (
	queryDoc = `"View and query VM metadata"`
	keysDoc  = `"Predefined metadata keys"`
	gkeDoc   = `"About Workload Identity Federation for GKE"`

	vmIdentityDoc = `"Verify VM identity"`
)

// mismatch is an answer that is not as expected.
type mismatch struct{ request, expected, seen string }

func (m *mismatch) Error() string { return "expected " + m.expected }

// notApplicable is the reason why a case does not apply to the caller.
type notApplicable string

func (n notApplicable) Error() string { return string(n) }

// expect is the check of one request.
func expect(request string, expectations ...expectation) check {
	return func(s *session) error { return s.expect(s.send(request), expectations...) }
}

// onlyFor is a check that applies to some kinds of callers.
func onlyFor(c check, kinds ...caller) check {
	return func(s *session) error {
		kind, err := s.caller()
		if err != nil {
			return err
		}
		if !slices.Contains(kinds, kind) {
			return notApplicable("the caller is " + string(kind))
		}
		return c(s)
	}
}

// ifLinked is a check for callers with a GSA.
func ifLinked(c check) check { return onlyFor(c, linked) }

// ifNotLinked is a check for callers without a GSA.
func ifNotLinked(c check) check { return onlyFor(c, unlinked, principal) }

// ifUnlinked is a check for callers that are shown as their workload pool.
func ifUnlinked(c check) check { return onlyFor(c, unlinked) }

// ifPrincipal is a check for callers that are shown as their principal identifier.
func ifPrincipal(c check) check { return onlyFor(c, principal) }
