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

// Options configures [Run]. Target is required.
type Options struct {
	Target   string         // host:port of the server
	Audience string         // of ID tokens; default: https://conformance.example
	Only     *regexp.Regexp // matches the names of the cases to run; default: all cases
	Timeout  time.Duration  // of one case; default: 10 s

	// Dial opens a connection; default: as a [net.Dialer] does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Outcome is the outcome of a case.
type Outcome string

// The outcomes.
const (
	Pass          Outcome = "pass"
	Fail          Outcome = "fail"
	NotApplicable Outcome = "n/a"
)

// Result is a case with its outcome. Tokens are replaced by [token].
type Result struct {
	Name     string  `json:"name"`
	Truth    Truth   `json:"truth"`
	Source   string  `json:"source"` // [Case.Evidence]
	Outcome  Outcome `json:"outcome"`
	Reason   string  `json:"reason,omitempty"`   // why the case is not applicable
	Request  string  `json:"request,omitempty"`  // this and the next two if the case has failed
	Expected string  `json:"expected,omitempty"` // one line for each expectation that is not met
	Seen     string  `json:"seen,omitempty"`     // every byte of the answer
}

// Run runs the cases against a server, and calls report with each result as soon as
// it is there. It returns an error only if the server cannot be reached or ctx ends.
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

// reach opens and closes a connection.
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
	result := Result{Name: c.Name, Truth: c.Truth, Source: c.Evidence(), Outcome: Pass}
	var different *mismatch
	var reason notApplicable
	switch err := c.check(s); {
	case errors.As(err, &reason):
		result.Outcome, result.Reason = NotApplicable, string(reason)
	case errors.As(err, &different):
		result.Outcome = Fail
		result.Request, result.Expected, result.Seen = s.show(different.request), s.show(different.expected), s.show(different.seen)
	case err != nil:
		result.Outcome, result.Expected = Fail, s.show(err.Error())
	}
	return result
}

// maxShown is the longest request or answer in a result, in bytes.
const maxShown = 4 << 10

func (s *session) show(text string) string {
	text = s.secrets.redact(text)
	if len(text) > maxShown {
		text = fmt.Sprintf("%s(and %d bytes more)", text[:maxShown], len(text)-maxShown)
	}
	return text
}
