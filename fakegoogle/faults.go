package fakegoogle

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The methods that are counted and can be made to fail.
const (
	MethodSTSToken            = "sts.token"
	MethodGenerateAccessToken = "iamcredentials.generateAccessToken"
	MethodGenerateIDToken     = "iamcredentials.generateIdToken"
	MethodSignBlob            = "iamcredentials.signBlob"
	MethodSignJWT             = "iamcredentials.signJwt"
	MethodGetIAMPolicy        = "iam.getIamPolicy"
	MethodOAuth2Token         = "oauth2.token"
	MethodOAuth2TokenInfo     = "oauth2.tokeninfo"
)

// Methods lists the methods that are counted and can be made to fail.
func Methods() []string {
	return []string{
		MethodSTSToken,
		MethodGenerateAccessToken, MethodGenerateIDToken, MethodSignBlob, MethodSignJWT,
		MethodGetIAMPolicy,
		MethodOAuth2Token, MethodOAuth2TokenInfo,
	}
}

// Fault is what goes wrong with a method.
type Fault struct {
	// Latency is waited before the answer, in real time.
	Latency time.Duration
	// Status is the HTTP status to fail with; 0 answers normally, late.
	Status int
	// RetryAfter, rounded up to seconds, goes into the header of that name.
	RetryAfter time.Duration
	// Times is how many calls fail; 0 is every call until cleared.
	Times int
}

// SetFault makes the calls of a method fail, in place of any fault set for it
// before. An unknown method panics: a fault that never strikes would let a test
// pass for the wrong reason.
func (s *Server) SetFault(method string, f Fault) {
	if !slices.Contains(Methods(), method) {
		panic(fmt.Sprintf("fakegoogle: unknown method %q: there are %s", method, strings.Join(Methods(), ", ")))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[method] = &f
}

// ClearFaults ends all faults.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
}

// Counters returns how often each method was called, failed calls included.
// Methods that were never called are there with 0.
func (s *Server) Counters() map[string]int {
	counters := map[string]int{}
	for _, method := range Methods() {
		counters[method] = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(counters, s.counters)
	return counters
}

func (s *Server) countAndFault(c *call) error {
	fault, struck := s.strike(c.method)
	if !struck {
		return nil
	}
	if fault.Latency > 0 {
		timer := time.NewTimer(fault.Latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.Context().Done():
			return c.Context().Err()
		}
	}
	if fault.Status == 0 {
		return nil
	}
	return faultError(c.method, fault)
}

// strike counts a call and takes one stroke off the method's fault.
func (s *Server) strike(method string) (Fault, bool) {
	if method == "" {
		return Fault{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters[method]++
	fault, ok := s.faults[method]
	if !ok {
		return Fault{}, false
	}
	struck := *fault
	if fault.Times > 0 {
		if fault.Times--; fault.Times == 0 {
			delete(s.faults, method)
		}
	}
	return struck, true
}

// faultError is the failure in the shape of the API that fails. The Security
// Token Service speaks RFC 6749 only for what is wrong with a request; its own
// troubles come in the shape of all Google APIs (seen as HTTP 500 INTERNAL).
func faultError(method string, f Fault) error {
	var header http.Header
	if f.RetryAfter > 0 {
		seconds := int((f.RetryAfter + time.Second - 1) / time.Second)
		header = http.Header{"Retry-After": {strconv.Itoa(seconds)}}
	}
	ours := f.Status >= http.StatusInternalServerError || f.Status == http.StatusTooManyRequests
	oauth := method == MethodOAuth2Token || method == MethodOAuth2TokenInfo
	if oauth || method == MethodSTSToken && !ours {
		code := "invalid_request"
		if ours {
			code = "internal_failure"
		}
		return &oauthError{Status: f.Status, Code: code, Description: "Injected fault.", header: header}
	}
	e := newAPIError(f.Status, "Injected fault.")
	if f.Status == http.StatusTooManyRequests {
		e.reason, e.domain = "RATE_LIMIT_EXCEEDED", "googleapis.com"
		e.message = "Quota exceeded for quota metric 'Injected faults' and limit 'Injected faults per minute'."
	}
	e.header = header
	return e
}
