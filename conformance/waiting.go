package conformance

import (
	"net/http"
	"time"
)

// waitingCases are about ETag and wait_for_change, which Google documents for
// Compute Engine; whether GKE has them is not known.
func waitingCases() []Case {
	const (
		key   = "project/project-id"
		guest = "Google's guest agent: metadata/metadata.go"
		wait  = "?wait_for_change=true"
	)
	return []Case{
		{"waiting/a value has an ETag", Documented, queryDoc, asks(get(key), status(200), headerMatching("ETag", `[0-9a-f]{16}`))},
		{"waiting/a directory has an ETag", Documented, queryDoc, asks(get("project/?recursive=true"), status(200), headerMatching("ETag", `[0-9a-f]{16}`))},
		{"waiting/equal values have equal ETags", Inferred, "last_etag is compared with it", equalETags(key)},
		{"waiting/equal directories have equal ETags", Inferred, "last_etag is compared with it", equalETags("project/?recursive=true")},
		{"waiting/last_etag=0 is answered at once", Documented, queryDoc, atOnce(key, wait+"&last_etag=0")},
		{"waiting/an ETag of before is answered at once", Documented, queryDoc, atOnce(key, wait+"&last_etag=0123456789abcdef")},
		{"waiting/the ETag of now waits for timeout_sec and gives what is", Documented, queryDoc, waits(key, wait+"&timeout_sec=1", true)},
		{"waiting/without last_etag it waits for the next change", Documented, queryDoc, waits(key, wait+"&timeout_sec=1", false)},
		{"waiting/wait_for_change=false does not wait", Inferred, "the parameter is true or not", atOnce(key, "?wait_for_change=false")},
		{"waiting/timeout_sec alone does not wait", Inferred, "it belongs to wait_for_change", atOnce(key, "?timeout_sec=1")},
		{"waiting/a directory with recursive=true, as the guest agent asks", Client, guest, atOnce("project/", "?alt=json&recursive=true&wait_for_change=true&timeout_sec=1&last_etag=0")},
		{"waiting/a listing is 400", Documented, queryDoc, asks(get("instance/"+wait), status(400), matching(`(?s).*Invalid Request.*`))},
		{"waiting/an account's listing is 400", Documented, queryDoc, asks(get(sa+"default/"+wait), status(400))},
		{"waiting/an access token is 400", Documented, queryDoc, asks(get(sa+"default/token"+wait), status(400), matching(`(?s).*Invalid Request.*`))},
		{"waiting/an access token is 400, also with last_etag", Documented, queryDoc, asks(get(sa+"default/token"+wait+"&last_etag=0"), status(400))},
		{"waiting/an ID token is 400", Documented, queryDoc, asks(get(sa+"default/identity"+wait+"&audience={audience}"), status(400))},
		{"waiting/what is not there is 404 at once", Inferred, "there is nothing to wait for", asks(get("instance/nothing"+wait), status(404))},
		{"waiting/timeout_sec that is no number is 400", Inferred, queryDoc + " has a whole number", asks(get(key+wait+"&timeout_sec=soon"), status(400))},
	}
}

func equalETags(path string) check {
	return func(s *session) error {
		etag := s.ask(get(path)).header.Get("ETag")
		return s.expect(s.ask(get(path)), status(http.StatusOK), headerMatching("ETag", ".+"), header("ETag", etag))
	}
}

// atOnce gives what the key says without the query, in less than the second that
// those who wait do wait here.
func atOnce(path, query string) check {
	return func(s *session) error {
		r := s.ask(get(path + query))
		without := get(path)
		if path == "project/" {
			without = get(path + "?recursive=true")
		}
		return s.expect(r, status(http.StatusOK), sameAs(without), func(_ *session, r reply) string {
			return unless(r.took < 900*time.Millisecond, "an answer at once; it took %s", r.took.Round(time.Millisecond))
		})
	}
}

// waits gives what is, when a second has passed.
func waits(path, query string, withETag bool) check {
	return func(s *session) error {
		if withETag {
			query += "&last_etag=" + s.ask(get(path)).header.Get("ETag")
		}
		return s.expect(s.ask(get(path+query)), status(http.StatusOK), sameAs(get(path)), func(_ *session, r reply) string {
			return unless(r.took >= 900*time.Millisecond, "an answer after a second; it took %s", r.took.Round(time.Millisecond))
		})
	}
}
