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

// expectation returns a text that describes the expected answer, or nothing if the
// answer is as expected.
type expectation func(*session, reply) string

const (
	text    = "application/text"
	jsonDoc = "application/json"
)

// status is one of the given status codes.
func status(codes ...int) expectation {
	return func(_ *session, r reply) string {
		return unless(slices.Contains(codes, r.status), "status %s", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(codes)), " or "), "[]"))
	}
}

// refused is any status of a client error.
func refused(_ *session, r reply) string {
	return unless(r.status >= 400 && r.status < 500, "a status from 400 to 499")
}

// header occurs once, with one of the values.
func header(name string, values ...string) expectation {
	return func(_ *session, r reply) string {
		got := r.header.Values(name)
		return unless(len(got) == 1 && slices.Contains(values, got[0]), "header %s: %s", name, strings.Join(values, " or "))
	}
}

// headerMatching occurs once, with a value that matches the whole pattern.
func headerMatching(name, pattern string) expectation {
	re := whole(pattern)
	return func(_ *session, r reply) string {
		got := r.header.Values(name)
		return unless(len(got) == 1 && re.MatchString(got[0]), "header %s that matches %s", name, pattern)
	}
}

// exactly compares the whole body.
func exactly(body string) expectation {
	return func(_ *session, r reply) string { return unless(r.body == body, "body %q", body) }
}

// matching is a pattern of the whole body, including a newline at its end.
func matching(pattern string) expectation {
	re := whole(pattern)
	return func(_ *session, r reply) string {
		return unless(re.MatchString(r.body), "a body that matches %s", pattern)
	}
}

func whole(pattern string) *regexp.Regexp { return regexp.MustCompile(`\A(?:` + pattern + `)\z`) }

// ok is the status 200 with exactly this content type.
func ok(contentType string) expectation {
	return both(status(http.StatusOK), header("Content-Type", contentType))
}

func both(a, b expectation) expectation {
	return func(s *session, r reply) string { return strings.Trim(a(s, r)+"\n"+b(s, r), "\n") }
}

// lists is a listing that contains the entries.
func lists(entries ...string) expectation {
	return func(s *session, r reply) string {
		want := s.filled(entries)
		got := listingEntries(r.body)
		return unless(!slices.ContainsFunc(want, func(e string) bool { return !slices.Contains(got, e) }), "a listing with %q", want)
	}
}

// listsOnly is a listing that contains the entries and no other.
func listsOnly(entries ...string) expectation {
	return func(s *session, r reply) string {
		want, got := s.filled(entries), listingEntries(r.body)
		slices.Sort(want)
		slices.Sort(got)
		return unless(slices.Equal(want, got), "a listing of %q and no other", want)
	}
}

func (s *session) filled(entries []string) []string {
	filled := slices.Clone(entries)
	for i := range filled {
		if entry, err := s.fill(filled[i]); err == nil {
			filled[i] = entry
		}
	}
	return filled
}

func listingEntries(listing string) []string { return strings.Fields(listing) }

func sorted(_ *session, r reply) string {
	return unless(slices.IsSorted(listingEntries(r.body)), "sorted entries")
}

func wholeLines(_ *session, r reply) string {
	return unless(r.body == "" || strings.HasSuffix(r.body, "\n") && !strings.Contains("\n"+r.body, "\n\n"),
		"a newline after every line, the last one included, and no empty line")
}

// sameAs is the body of the answer to another request.
func sameAs(request string) expectation {
	return func(s *session, r reply) string {
		other := s.send(request)
		return unless(other.status == http.StatusOK && other.body == r.body, "the body of GET %s, which is %q", target(other.request), other.body)
	}
}

// document returns the body as a JSON object, with numbers as they are written.
func (r reply) document() (map[string]any, bool) {
	var document map[string]any
	decoder := json.NewDecoder(strings.NewReader(r.body))
	decoder.UseNumber()
	err := decoder.Decode(&document)
	return document, err == nil && !decoder.More()
}

// keys are the keys of the JSON object; it has no other.
func keys(names ...string) expectation {
	return func(s *session, r reply) string {
		want := s.filled(names)
		slices.Sort(want)
		document, valid := r.document()
		return unless(valid && slices.Equal(slices.Sorted(maps.Keys(document)), want), "a JSON object with the keys %q and no other", want)
	}
}

// field returns a field of the JSON object by its path: keys separated by dots.
func (r reply) field(path string) any {
	var value any
	value, _ = r.document()
	for key := range strings.SplitSeq(path, ".") {
		object, _ := value.(map[string]any)
		value = object[key]
	}
	return value
}

// hasField is a JSON object with a field.
func hasField(field string) expectation {
	return func(_ *session, r reply) string { return unless(r.field(field) != nil, "JSON with %s", field) }
}

// fieldIsString is a JSON object with a field, a string, that has the value of a key.
func fieldIsString(field, path string) expectation {
	return func(s *session, r reply) string {
		single := s.send(get(path))
		return unless(single.status == http.StatusOK && r.field(field) == any(single.body), "%s: the string %q, the value of %s", field, single.body, path)
	}
}

// fieldIsNumber is the same for a JSON number, with all its digits.
func fieldIsNumber(field, path string) expectation {
	return func(s *session, r reply) string {
		single := s.send(get(path))
		return unless(single.status == http.StatusOK && r.field(field) == any(json.Number(single.body)), "%s: the number %s, the value of %s", field, single.body, path)
	}
}

// unless returns nothing if the condition holds, and else the expected answer.
func unless(holds bool, expected string, args ...any) string {
	if holds {
		return ""
	}
	return fmt.Sprintf(expected, args...)
}
