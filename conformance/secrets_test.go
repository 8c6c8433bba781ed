package conformance

import (
	"encoding/json"
	"strings"
	"testing"
)

// In any form and in any place of an answer, a token is not printed.
func TestReport_RedactsTokens(t *testing.T) {
	id := jwt(`{"aud":"x"}`)
	for name, body := range map[string]string{
		"unchanged":           "", // the correct server's
		"JSON":                `{"access_token":"` + opaque + `","expires_in":0}`,
		"JSON, broken":        `{"access_token" : "` + opaque + `","expires_in":3599.5`,
		"another key":         `{"accessToken":"` + opaque + `"}`,
		"bare":                opaque,
		"in HTML":             "<html><b>" + opaque + "</b>" + id,
		"a JWT":               id,
		"a JWT of two parts":  id[:strings.LastIndex(id, ".")],
		"Google's own form":   "token ya29." + opaque,
		"under another name":  `{"token":"` + opaque + `"}`,
		"several, on a line":  opaque + " " + id + " " + opaque,
		"with a line between": id + "\n" + opaque + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &proxy{t: t, target: serve(t, backends()[linked]), breakage: breakage{name: name, after: func(q *ask, a *answer) {
				requested := strings.Contains(q.target, "token") || strings.Contains(q.target, "identity")
				if requested && body != "" && a.status == 200 {
					a.body = body
				}
				a.header.Set("Server", "breaks every case of headers, so all answers are printed")
				if !requested && strings.Contains(q.target, "recursive") {
					a.body += `"` + opaque + `"` + id
				}
			}}}
			var printed strings.Builder
			report := &Report{}
			failed := 0
			for _, r := range run(t, Options{Target: p.start()}, matchingNames(`tokens/[^w].*|identity/.*|headers/.*|recursive/.*|accounts/.*|refusals/.*|parameters/token.*`)...) {
				report.Add(r)
				if err := r.Text(&printed); err != nil {
					t.Fatal(err)
				}
				if r.Outcome == Fail {
					failed++
				}
			}
			if err := report.JSON(&printed, "x"); err != nil {
				t.Fatal(err)
			}
			if failed == 0 {
				t.Error("no case has failed, so no answer was printed")
			}
			for _, secret := range []string{opaque, "eyJ", "ya29."} {
				if i := strings.Index(printed.String(), secret); i >= 0 {
					t.Errorf("the report contains %s: …%s…", secret, printed.String()[max(0, i-300):min(i+100, printed.Len())])
				}
			}
			if !strings.Contains(printed.String(), redacted) {
				t.Errorf("the report does not contain %s", redacted)
			}
		})
	}
}

// matchingNames returns the names of cases that match the whole pattern.
func matchingNames(pattern string) []string {
	var names []string
	for _, c := range Cases() {
		if whole(pattern).MatchString(c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestReport_ShowsExpectationAndAnswer(t *testing.T) {
	r := Result{Name: "values/x", Truth: Documented, Source: "a document", Outcome: Fail, Request: "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		Expected: "status 200\nbody \"y\"", Seen: "HTTP/1.1 404 Not Found\r\nX: \x1b[2J\r\n\r\nz\t\n\nno"}
	var b strings.Builder
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	want := `FAIL  documented  values/x
      from      a document
      expected  status 200
      expected  body "y"
      > GET / HTTP/1.1
      > Host: x
      < HTTP/1.1 404 Not Found
      < X: \x1b[2J
      | z\t
      |
      | no
      \ no newline at the end
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestReport_SummaryCountsByOutcomeAndTruth(t *testing.T) {
	p := &Report{}
	for _, r := range []Result{
		{Truth: Documented, Outcome: Pass}, {Truth: Documented, Outcome: Pass}, {Truth: Inferred, Outcome: Pass},
		{Truth: Client, Outcome: Fail}, {Truth: Observed, Outcome: NotApplicable},
	} {
		p.Add(r)
	}
	want := "3 passed (documented 2, inferred 1); 1 failed (client 1); 1 not applicable (observed 1)"
	if got := p.Summary(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var b strings.Builder
	if err := p.JSON(&b, "http://x"); err != nil {
		t.Fatal(err)
	}
	var document struct {
		Target                        string
		Passed, Failed, NotApplicable int
		Cases                         []Result
	}
	if err := json.Unmarshal([]byte(b.String()), &document); err != nil || document.Passed != 3 || document.Failed != 1 || document.NotApplicable != 1 || len(document.Cases) != 5 {
		t.Errorf("the JSON report is %+v (%v)", document, err)
	}
}

// If no server listens, no case runs, and the error names the server.
func TestRun_FailsIfServerIsUnreachable(t *testing.T) {
	err := Run(t.Context(), Options{Target: "127.0.0.1:1"}, func(r Result) { t.Errorf("the case %s has run", r.Name) })
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("error %v, want one that names the server", err)
	}
}
