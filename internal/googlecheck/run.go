package googlecheck

import (
	"context"
	"crypto/rsa"
	"errors"
	"net/http"
	"regexp"
	"time"

	"golang.org/x/oauth2"
)

// Options say which project is used, and how.
type Options struct {
	Project       string  // ID of the scratch project
	DottedProject string  // the same in addresses: prod.example.com for example.com:prod
	ProjectNumber string  // default: the number in the name of a new pool
	OtherProject  string  // ID of a second project of the caller's; can be empty
	Cluster       Cluster // can be nil

	// The base URLs of the services.
	STS, IAMCredentials, IAM, ServiceUsage string

	Credential     oauth2.TokenSource // of an owner of the project
	UserCredential bool               // it is a person's, not a service account's

	Only        *regexp.Regexp // runs the checks whose names match; nil: all
	DisableAPIs bool           // permits checks that disable an API for some minutes
	Keep        bool           // leaves everything in the project

	HTTPClient *http.Client // default: http.DefaultClient
	// Attempts is how often a call is made that fails until Google has taken note of a
	// change; Pause waits between two attempts.
	Attempts int
	Pause    func(context.Context) error

	newKey func() (*rsa.PrivateKey, error) // of the issuer; a test's is not new, as it takes long
}

// Pause returns a pause of that duration, for [Options].
func Pause(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run runs the checks and reports each result. It returns a command for everything that
// is left in the project: all of it with Keep, or else the remains that could not be
// removed. If the context ends, Run removes everything and returns the context's error.
func Run(ctx context.Context, o Options, report func(Result)) (left []string, err error) {
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	if o.newKey == nil {
		o.newKey = newKey
	}
	s, err := newScratch(o)
	if err != nil {
		return nil, err
	}
	for _, check := range Checks() {
		if o.Only != nil && !o.Only.MatchString(check.Name) {
			continue
		}
		result := s.result(ctx, check)
		if ctx.Err() != nil {
			break
		}
		report(result)
	}
	return s.leave(), ctx.Err()
}

func (s *scratch) result(ctx context.Context, c Check) Result {
	observed, holds, err := c.run(ctx, s)
	result := Result{Check: c, Outcome: Different, Observed: observed}
	switch reason := notApplicable(""); {
	case errors.As(err, &reason):
		result.Outcome, result.Observed = NotApplicable, string(reason)
	case err != nil:
		result.Outcome, result.Observed = Failed, err.Error()
	case holds:
		result.Outcome = Expected
	}
	return result
}
