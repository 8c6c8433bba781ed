package examples

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gke-metadata-emulator/integration/cluster"
)

// verdict classifies an answer of the metadata server.
type verdict string

const (
	right       verdict = "right"       // a token of the pod's own KSA and GSA
	refused     verdict = "refused"     // with the uploaded JWKS named, and the remedy
	unavailable verdict = "unavailable" // 503: retry
	silent      verdict = "silent"      // no answer
	invalid     verdict = "wrong"       // all else
)

// polls are the answers that pods got and reported.
type polls struct {
	url     string
	fixture *Fixture

	mu      sync.Mutex
	phase   string
	phases  []string
	expects map[string]Chain
	counts  map[string]map[string]map[verdict]int // by phase and pod
	texts   map[string]map[verdict]string         // the last, by pod
	first   map[string]map[verdict]time.Time      // of the phase, by pod
	invalid []string
	changed chan struct{} // closed at the next answer
}

// collect listens for the reports of pods, until the test ends.
func collect(t *testing.T, s *Fixture) *polls {
	t.Helper()
	p := &polls{
		fixture: s, expects: map[string]Chain{}, counts: map[string]map[string]map[verdict]int{},
		texts: map[string]map[verdict]string{}, changed: make(chan struct{}),
	}
	address := net.JoinHostPort(cluster.Address, "8090")
	listener, err := s.Cluster.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	p.url = "http://" + address + "/"
	run(t, &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}, func(s *http.Server) error { return s.Serve(listener) })
	return p
}

func (p *polls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.record(r.Header.Get("Pod"), r.Header.Get("Status"), string(body))
}

func (p *polls) record(pod, status, body string) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	v, why := p.judge(pod, status, body)
	if v == invalid {
		p.invalid = append(p.invalid, fmt.Sprintf("%s, %s: status %s: %s", p.phase, pod, status, why))
	}
	count(p.counts[p.phase], pod, v)
	if p.texts[pod] == nil {
		p.texts[pod] = map[verdict]string{}
	}
	if v != right { // no tokens
		p.texts[pod][v] = body
	}
	if p.first[pod] == nil {
		p.first[pod] = map[verdict]time.Time{}
	}
	if _, known := p.first[pod][v]; !known {
		p.first[pod][v] = now
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func count(counts map[string]map[verdict]int, pod string, v verdict) {
	if counts[pod] == nil {
		counts[pod] = map[verdict]int{}
	}
	counts[pod][v]++
}

// judge is strict: a refusal with another reason is wrong. The caller holds the lock.
func (p *polls) judge(pod, status, body string) (v verdict, why string) {
	switch status {
	case "200":
		var answer struct {
			Token string `json:"access_token"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Token == "" {
			return invalid, "no token"
		}
		chain, err := p.fixture.TokenOf(answer.Token)
		if err == nil {
			err = chain.equal(p.expects[pod])
		}
		if err != nil {
			return invalid, err.Error()
		}
		return right, ""
	case "403":
		for _, text := range []string{"invalid_grant", "was signed with key ", "uploaded JWKS", "\nkubectl get --raw /openid/v1/jwks > jwks.json", "\ngcloud iam workload-identity-pools providers update-oidc projects/" + ProjectNumber + "/"} {
			if !strings.Contains(body, text) {
				return invalid, "the refusal lacks " + text + ": " + body
			}
		}
		return refused, ""
	case "503":
		return unavailable, ""
	case "000":
		return silent, ""
	}
	return invalid, body
}

// enter begins a phase, in which answers are counted from zero.
func (p *polls) enter(phase string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = phase
	p.phases = append(p.phases, phase)
	p.counts[phase] = map[string]map[verdict]int{}
	p.first = map[string]map[verdict]time.Time{}
}

func (p *polls) now() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase
}

// expect sets the chain that the tokens of a pod must have.
func (p *polls) expect(pod string, chain Chain) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expects[pod] = chain
}

// last is the text of a pod's last answer with that verdict.
func (p *polls) last(pod string, v verdict) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.texts[pod][v]
}

// await returns when a pod has received a number of answers of a kind in this phase. The
// result is the time until the first one.
func (p *polls) await(t *testing.T, pod string, v verdict, least int, within time.Duration) time.Time {
	t.Helper()
	deadline := time.After(within)
	for {
		p.mu.Lock()
		counts, first, changed, phase := maps.Clone(p.counts[p.phase][pod]), p.first[pod][v], p.changed, p.phase
		p.mu.Unlock()
		if counts[v] >= least {
			return first
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: %s has not had %d answers that are %s within %s, but %v", phase, pod, least, v, within, counts)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// check checks the answers from rotation to recovery.
func (p *polls) check(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.invalid[:min(len(p.invalid), 5)] {
		t.Error(w)
	}
	for phase, pods := range p.counts {
		for pod, counts := range pods {
			// The daemon is never restarted, so it keeps its cache.
			if counts[silent] > 0 {
				t.Errorf("%s: %s had no answer %d times", phase, pod, counts[silent])
			}
			if strings.HasPrefix(pod, "writer-") && counts[refused] > 0 {
				t.Errorf("%s: %s, which had a token, was refused %d times", phase, pod, counts[refused])
			}
			if phase != "not uploaded" && phase != "uploaded" && counts[refused] > 0 {
				t.Errorf("%s: %s was refused %d times although the keys were uploaded", phase, pod, counts[refused])
			}
		}
	}
}

// report prints how often each answer was given.
func (p *polls) report(t *testing.T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := map[verdict]int{}
	for _, phase := range p.phases {
		for _, pod := range slices.Sorted(maps.Keys(p.counts[phase])) {
			t.Logf("%-16s %-16s %v", phase, pod, p.counts[phase][pod])
			for v, n := range p.counts[phase][pod] {
				total[v] += n
			}
		}
	}
	t.Logf("all answers: %v", total)
	for _, pod := range slices.Sorted(maps.Keys(p.texts)) {
		if text := p.texts[pod][unavailable]; text != "" {
			t.Logf("the last answer to %s that asked for a retry: %s", pod, text)
		}
	}
}

func lookPath(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
