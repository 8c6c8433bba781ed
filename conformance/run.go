package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"time"
)

// Options is what [Run] needs. Target is required.
type Options struct {
	Target   string         // host and port
	Audience string         // of ID tokens; https://conformance.example where empty
	Only     *regexp.Regexp // of the names of the cases to run; nil for all
	Timeout  time.Duration  // of one case; 10 s where zero

	// Dial opens a connection; that of a [net.Dialer] where nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Outcome is what became of a case.
type Outcome string

// The outcomes.
const (
	Pass          Outcome = "pass"
	Fail          Outcome = "fail"
	NotApplicable Outcome = "n/a"
)

// Result is a case with its outcome. No token stands in it.
type Result struct {
	Name     string  `json:"name"`
	Truth    Truth   `json:"truth"`
	Source   string  `json:"source"`
	Outcome  Outcome `json:"outcome"`
	Reason   string  `json:"reason,omitempty"`   // why it is not applicable
	Request  string  `json:"request,omitempty"`  // this and the next two where it failed
	Expected string  `json:"expected,omitempty"` // a line for each thing that is not so
	Seen     string  `json:"seen,omitempty"`     // every byte of the answer
}

// Run asks a server, and calls report with each result as it comes. Its error is
// that the server cannot be reached.
func Run(ctx context.Context, o Options, report func(Result)) error {
	return runCases(ctx, o, slices.DeleteFunc(Cases(), func(c Case) bool { return o.Only != nil && !o.Only.MatchString(c.Name) }), report)
}

func runCases(ctx context.Context, o Options, cases []Case, report func(Result)) error {
	o.Audience = cmp.Or(o.Audience, "https://conformance.example")
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	s := &session{options: o, secrets: newSecrets()}
	if err := s.reach(ctx); err != nil {
		return fmt.Errorf("the metadata server at %s cannot be reached: %w", o.Target, err)
	}
	for _, c := range cases {
		if err := ctx.Err(); err != nil {
			return err
		}
		report(s.run(ctx, c))
	}
	return nil
}

// reach connects, and nothing else.
func (s *session) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	s.ctx = ctx
	c, err := s.dial()
	if err != nil {
		return err
	}
	return c.Close()
}

func (s *session) run(ctx context.Context, c Case) Result {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	s.ctx = ctx
	result := Result{Name: c.Name, Truth: c.Truth, Source: c.Source, Outcome: Pass}
	var differs *mismatch
	var not notApplicable
	switch err := c.check(s); {
	case errors.As(err, &not):
		result.Outcome, result.Reason = NotApplicable, string(not)
	case errors.As(err, &differs):
		result.Outcome = Fail
		result.Request, result.Expected, result.Seen = s.show(differs.request), s.show(differs.expected), s.show(differs.seen)
	case err != nil:
		result.Outcome, result.Expected = Fail, s.show(err.Error())
	}
	return result
}

// shown is how much of a request or an answer a result holds.
const shown = 4 << 10

func (s *session) show(of string) string {
	of = s.secrets.redact(of)
	if len(of) > shown {
		of = fmt.Sprintf("%s(and %d bytes more)", of[:shown], len(of)-shown)
	}
	return of
}
