package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// expectation says what an answer lacks; nothing where it is as expected.
type expectation func(*session, reply) string

const (
	text    = "application/text"
	jsonDoc = "application/json"
)

// status is one of those given.
func status(codes ...int) expectation {
	return func(_ *session, r reply) string {
		return unless(slices.Contains(codes, r.status), "status %s", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(codes)), " or "), "[]"))
	}
}

// refused is any status that says that the request was wrong.
func refused(_ *session, r reply) string {
	return unless(r.status >= 400 && r.status < 500, "a status from 400 to 499")
}

// header is there once, with one of the values.
func header(name string, values ...string) expectation {
	return func(_ *session, r reply) string {
		got := r.header.Values(name)
		return unless(len(got) == 1 && slices.Contains(values, got[0]), "header %s: %s", name, strings.Join(values, " or "))
	}
}

// headerMatching is there once, and matches as a whole.
func headerMatching(name, pattern string) expectation {
	re := whole(pattern)
	return func(_ *session, r reply) string {
		got := r.header.Values(name)
		return unless(len(got) == 1 && re.MatchString(got[0]), "header %s that matches %s", name, pattern)
	}
}

// exactly is the whole body.
func exactly(body string) expectation {
	return func(_ *session, r reply) string { return unless(r.body == body, "body %q", body) }
}

// matching is a pattern of the whole body; a newline at its end is not overlooked.
func matching(pattern string) expectation {
	re := whole(pattern)
	return func(_ *session, r reply) string {
		return unless(re.MatchString(r.body), "a body that matches %s", pattern)
	}
}

func whole(pattern string) *regexp.Regexp { return regexp.MustCompile(`\A(?:` + pattern + `)\z`) }

// ok is 200 with a content type that is exactly this one.
func ok(contentType string) expectation {
	return both(status(http.StatusOK), header("Content-Type", contentType))
}

func both(a, b expectation) expectation {
	return func(s *session, r reply) string { return strings.Trim(a(s, r)+"\n"+b(s, r), "\n") }
}

// lists says that a listing has the entries, and no other where they are all.
func lists(entries ...string) expectation {
	return func(s *session, r reply) string {
		want := s.filled(entries)
		got := entriesOf(r.body)
		return unless(!slices.ContainsFunc(want, func(e string) bool { return !slices.Contains(got, e) }), "a listing with %q", want)
	}
}

func listsOnly(entries ...string) expectation {
	return func(s *session, r reply) string {
		want, got := s.filled(entries), entriesOf(r.body)
		slices.Sort(want)
		slices.Sort(got)
		return unless(slices.Equal(want, got), "a listing of %q and no other", want)
	}
}

func (s *session) filled(entries []string) []string {
	filled := slices.Clone(entries)
	for i := range filled {
		if with, err := s.fill(filled[i]); err == nil {
			filled[i] = with
		}
	}
	return filled
}

func entriesOf(listing string) []string { return strings.Fields(listing) }

func sorted(_ *session, r reply) string {
	return unless(slices.IsSorted(entriesOf(r.body)), "entries in order")
}

func wholeLines(_ *session, r reply) string {
	return unless(r.body == "" || strings.HasSuffix(r.body, "\n") && !strings.Contains("\n"+r.body, "\n\n"),
		"a newline after every line, the last one included, and no empty line")
}

// sameAs is the body that another request is answered with.
func sameAs(request string) expectation {
	return func(s *session, r reply) string {
		other := s.ask(request)
		return unless(other.status == http.StatusOK && other.body == r.body, "the body of GET %s, which is %q", target(other.request), other.body)
	}
}

// document is the body as JSON, with numbers as they are written.
func (r reply) document() (map[string]any, bool) {
	var document map[string]any
	decoder := json.NewDecoder(strings.NewReader(r.body))
	decoder.UseNumber()
	err := decoder.Decode(&document)
	return document, err == nil && !decoder.More()
}

// keys are those of the JSON object, and no other.
func keys(names ...string) expectation {
	return func(s *session, r reply) string {
		want := s.filled(names)
		slices.Sort(want)
		document, valid := r.document()
		return unless(valid && slices.Equal(slices.Sorted(maps.Keys(document)), want), "a JSON object with the keys %q and no other", want)
	}
}

// at is the value at a place of the JSON object: keys with dots between them.
func (r reply) at(place string) any {
	var at any
	at, _ = r.document()
	for key := range strings.SplitSeq(place, ".") {
		object, _ := at.(map[string]any)
		at = object[key]
	}
	return at
}

// has is a place of the JSON object that has a value.
func has(place string) expectation {
	return func(_ *session, r reply) string { return unless(r.at(place) != nil, "JSON with %s", place) }
}

// agrees says that a place of the JSON object, a string, is what a single key says.
func agrees(place, path string) expectation {
	return func(s *session, r reply) string {
		single := s.ask(get(path))
		return unless(single.status == http.StatusOK && r.at(place) == any(single.body), "%s: the string %q, as %s says", place, single.body, path)
	}
}

// agreesAsNumber says the same of a JSON number. None of its digits may be lost.
func agreesAsNumber(place, path string) expectation {
	return func(s *session, r reply) string {
		single := s.ask(get(path))
		return unless(single.status == http.StatusOK && r.at(place) == any(json.Number(single.body)), "%s: the number %s, as %s says", place, single.body, path)
	}
}

// unless is what is missing where something does not hold.
func unless(holds bool, missing string, args ...any) string {
	if holds {
		return ""
	}
	return fmt.Sprintf(missing, args...)
}
