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

// The names of the methods that are counted and can have a [Fault].
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

// Methods lists the methods that are counted and can have a [Fault].
func Methods() []string {
	return []string{
		MethodSTSToken,
		MethodGenerateAccessToken, MethodGenerateIDToken, MethodSignBlob, MethodSignJWT,
		MethodGetIAMPolicy,
		MethodOAuth2Token, MethodOAuth2TokenInfo,
	}
}

// Fault is a failure that is injected into the calls of a method.
type Fault struct {
	// Latency is the delay before the answer, in real time.
	Latency time.Duration
	// Status is the HTTP status of the failure. If it is 0, the call is answered
	// normally after the latency.
	Status int
	// RetryAfter is the value of the Retry-After header, rounded up to seconds;
	// default: no header.
	RetryAfter time.Duration
	// Times is the number of calls that get the fault; default: every call until
	// [Server.ClearFaults].
	Times int
}

// SetFault injects a fault into the calls of a method. It replaces the method's
// previous fault. It panics if the method is not one of [Methods]: a test whose
// fault never occurs would pass for the wrong reason.
func (s *Server) SetFault(method string, f Fault) {
	if !slices.Contains(Methods(), method) {
		panic(fmt.Sprintf("fakegoogle: unknown method %q: the methods are %s", method, strings.Join(Methods(), ", ")))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[method] = &f
}

// ClearFaults removes all faults.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
}

// Counters returns the number of calls of each method, including failed calls.
// A method that was never called has the count 0.
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

// QuotaProjects returns the number of calls of each method by the project in their header
// X-Goog-User-Project, including failed calls; the project is empty for a call without
// the header.
func (s *Server) QuotaProjects() map[string]map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	projects := map[string]map[string]int{}
	for method, calls := range s.billed {
		projects[method] = maps.Clone(calls)
	}
	return projects
}

func (s *Server) countAndFault(c *call) error {
	fault, ok := s.nextFault(c)
	if !ok {
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

// nextFault counts a call and returns the fault of its method, if it has one.
func (s *Server) nextFault(c *call) (Fault, bool) {
	method := c.method
	if method == "" {
		return Fault{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters[method]++
	if s.billed[method] == nil {
		s.billed[method] = map[string]int{}
	}
	s.billed[method][quotaProject(c.Request)]++
	fault, ok := s.faults[method]
	if !ok {
		return Fault{}, false
	}
	injected := *fault
	if fault.Times > 0 {
		if fault.Times--; fault.Times == 0 {
			delete(s.faults, method)
		}
	}
	return injected, true
}

// faultError returns the failure in the shape of the API that fails. The Security
// Token Service uses RFC 6749 if a request is wrong or above the quota; that its own
// failures have the shape of all Google APIs is inferred.
func faultError(method string, f Fault) error {
	var header http.Header
	if f.RetryAfter > 0 {
		seconds := int((f.RetryAfter + time.Second - 1) / time.Second)
		header = http.Header{"Retry-After": {strconv.Itoa(seconds)}}
	}
	if method == MethodSTSToken && f.Status == http.StatusTooManyRequests {
		// GoogleCloudPlatform/gcsfuse#1709, 2024-02-13, behind GKE's metadata server.
		return &oauthError{Status: f.Status, Code: "quota_exceeded", Description: "The request was throttled due to rate limit. Please retry after a few seconds.", header: header}
	}
	serverFailure := f.Status >= http.StatusInternalServerError || f.Status == http.StatusTooManyRequests
	oauth := method == MethodOAuth2Token || method == MethodOAuth2TokenInfo
	if oauth || method == MethodSTSToken && !serverFailure {
		code := "invalid_request"
		if serverFailure {
			code = "internal_failure"
		}
		return &oauthError{Status: f.Status, Code: code, Description: "Injected fault.", header: header}
	}
	e := newAPIError(f.Status, "Injected fault.")
	if f.Status == http.StatusTooManyRequests {
		e.reason, e.domain = "RATE_LIMIT_EXCEEDED", "googleapis.com"
		e.Message = "Quota exceeded for quota metric 'Injected faults' and limit 'Injected faults per minute'."
	}
	e.header = header
	return e
}
