package conformance

import (
	"net/http"
	"time"
)

// waitingCases are about ETag and wait_for_change, which Google documents for
// Compute Engine. Whether GKE has them is not documented.
func waitingCases() []row {
	const (
		key   = "project/project-id"
		guest = "Google's guest agent: metadata/metadata.go"
		wait  = "?wait_for_change=true"
	)
	return []row{
		{"waiting/a value has an ETag", Documented, queryDoc, expect(get(key), status(200), headerMatching("ETag", `[0-9a-f]{16}`))},
		{"waiting/a directory has an ETag", Documented, queryDoc, expect(get("project/?recursive=true"), status(200), headerMatching("ETag", `[0-9a-f]{16}`))},
		{"waiting/equal values have equal ETags", Inferred, "last_etag is compared with the ETag", equalETags(key)},
		{"waiting/equal directories have equal ETags", Inferred, "last_etag is compared with the ETag", equalETags("project/?recursive=true")},
		{"waiting/last_etag=0 is answered at once", Documented, queryDoc, atOnce(key, wait+"&last_etag=0")},
		{"waiting/an outdated ETag is answered at once", Documented, queryDoc, atOnce(key, wait+"&last_etag=0123456789abcdef")},
		{"waiting/the current ETag waits for timeout_sec and returns the value", Documented, queryDoc, waits(key, wait+"&timeout_sec=1", true)},
		{"waiting/a request without last_etag waits for the next change", Documented, queryDoc, waits(key, wait+"&timeout_sec=1", false)},
		{"waiting/wait_for_change=false does not wait", Inferred, "only the value true waits", atOnce(key, "?wait_for_change=false")},
		{"waiting/timeout_sec alone does not wait", Inferred, "it belongs to wait_for_change", atOnce(key, "?timeout_sec=1")},
		{"waiting/a directory with recursive=true, as the guest agent requests it", Client, guest, atOnce("project/", "?alt=json&recursive=true&wait_for_change=true&timeout_sec=1&last_etag=0")},
		{"waiting/a listing is 400", Documented, queryDoc, expect(get("instance/"+wait), status(400), matching(`(?s).*Invalid Request.*`))},
		{"waiting/an account's listing is 400", Documented, queryDoc, expect(get(sa+"default/"+wait), status(400))},
		{"waiting/an access token is 400", Documented, queryDoc, expect(get(sa+"default/token"+wait), status(400), matching(`(?s).*Invalid Request.*`))},
		{"waiting/an access token is 400, also with last_etag", Documented, queryDoc, expect(get(sa+"default/token"+wait+"&last_etag=0"), status(400))},
		{"waiting/an ID token is 400", Documented, queryDoc, expect(get(sa+"default/identity"+wait+"&audience={audience}"), status(400))},
		{"waiting/an absent key is 404 at once", Inferred, "there is nothing to wait for", expect(get("instance/nothing"+wait), status(404))},
		{"waiting/timeout_sec that is not a number is 400", Inferred, queryDoc + ": a whole number", expect(get(key+wait+"&timeout_sec=soon"), status(400))},
	}
}

func equalETags(path string) check {
	return func(s *session) error {
		etag := s.send(get(path)).header.Get("ETag")
		return s.expect(s.send(get(path)), status(http.StatusOK), headerMatching("ETag", ".+"), header("ETag", etag))
	}
}

// waitTime separates the two: a request that waits takes a second in these cases, any
// other far less.
const waitTime = 900 * time.Millisecond

// atOnce is the value of the key without the query, without a wait. A slow answer is
// requested again: a server that waits is slow each time, a busy machine is not.
func atOnce(path, query string) check {
	return func(s *session) error {
		var r reply
		for range 3 {
			if r = s.send(get(path + query)); r.status == 0 || r.duration < waitTime {
				break
			}
		}
		without := get(path)
		if path == "project/" {
			without = get(path + "?recursive=true")
		}
		return s.expect(r, status(http.StatusOK), sameAs(without), func(_ *session, r reply) string {
			return unless(r.duration < waitTime, "an answer at once; it took %s", r.duration.Round(time.Millisecond))
		})
	}
}

// waits is the value of the key after a second.
func waits(path, query string, withETag bool) check {
	return func(s *session) error {
		if withETag {
			query += "&last_etag=" + s.send(get(path)).header.Get("ETag")
		}
		return s.expect(s.send(get(path+query)), status(http.StatusOK), sameAs(get(path)), func(_ *session, r reply) string {
			return unless(r.duration >= waitTime, "an answer after a second; it took %s", r.duration.Round(time.Millisecond))
		})
	}
}
