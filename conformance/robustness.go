package conformance

import (
	"io"
	"net/http"
	"strings"

	"gke-metadata-emulator/internal/wellknown"
)

// robustnessCases are about connections, and about requests that no usual client
// sends.
func robustnessCases() []row {
	const (
		key    = "project/project-id"
		http11 = "RFC 9112"
		noWay  = "no way around the flavor header"
	)
	id, number := get(key), get("project/numeric-project-id")
	cases := []row{
		{"robustness/a connection is kept for the next request", Inferred, http11 + ", section 9.3", keepAlive(id, number, id)},
		{"robustness/a connection is kept after an error", Inferred, http11 + ", section 9.3", keepAlive(get("instance/nothing"), id)},
		{"robustness/pipelined requests are answered in order", Inferred, http11 + ", section 9.3.2", pipelined(number, get("instance/nothing"), id, number)},
		{"robustness/the body of a GET is not the next request", Inferred, http11 + ", section 6",
			pipelined(get(key, "Content-Length: 16")+"GET / HTTP/1.0\r\n", number)},
		{"robustness/HTTP/1.0 without Host", Inferred, http11 + ", section 3.2", expect(head("GET "+root+key+" HTTP/1.0", flavor), status(200), sameAs(id))},
		{"robustness/HTTP/1.0 closes the connection", Inferred, http11 + ", section 9.3", closesAfter(head("GET "+root+key+" HTTP/1.0", flavor))},
		{"robustness/Connection: close is honoured", Inferred, http11 + ", section 9.6", closesAfter(get(key, "Connection: close"))},
		{"robustness/the whole URL as target", Inferred, http11 + ", section 3.2.2", expect(get("http://"+dnsName+root+key), status(200), sameAs(id))},
		{"robustness/the whole URL as target needs the flavor header", Inferred, noWay, expect(bare("GET", "http://"+dnsName+root+sa+"default/token"), refused, noToken)},
		{"robustness/unreserved characters can be percent-encoded", Inferred, "RFC 3986, section 6.2.2.2", expect(get("project/%70roject%2Did"), status(200), sameAs(id))},
		{"robustness/many headers do not replace the flavor header", Inferred, noWay, expect(bare("GET", sa+"default/token", padding()...), refused, noToken)},
		{"robustness/an overlong path does not replace the flavor header", Inferred, noWay, expect(bare("GET", sa+strings.Repeat("x", 64<<10)+"/token"), refused, noToken)},
		{"robustness/an overlong path gets no value", Inferred, "there is no such key", expect(get(sa+strings.Repeat("x", 64<<10)+"/token"), refused, noToken)},
		{"robustness/a request that is not HTTP gets no value", Inferred, http11 + ", section 3", refusedOrClosed(notHTTP)},
		{"robustness/an unknown method gets no value", Inferred, "the metadata is read only", expect(bare("BREW", sa+"default/token", flavor), func(_ *session, r reply) string {
			return unless(r.status >= 400, "a status of 400 or more")
		}, noToken)},
	}
	cases = append(cases, row{"robustness/an unrelated Host", Inferred, "clients reach the address by any name; a guard against DNS rebinding refuses this one",
		expect(requestTo("elsewhere.example:8080", "GET", key, flavor), valueOrForbidden(id))})
	for _, host := range []string{address, dnsName, dnsName + ".", wellknown.MetadataShortHost, "{host}"} {
		cases = append(cases, row{"robustness/Host: " + host, Client, "clients name it by address, by name, by name with a dot at the end, or by GCE_METADATA_HOST",
			expect(requestTo(host, "GET", key, flavor), status(200), sameAs(id))})
	}
	for _, trick := range []string{
		"/" + root + key, "/./computeMetadata/v1/" + key, "/x/../computeMetadata/v1/" + key,
		root + "../v1/" + key, root + "%2e%2e/v1/" + key, root + "/" + key, "/computeMetadata%2Fv1%2F" + key, "/%63omputeMetadata/v1/" + key,
		root + key + "/", root + key + "/..", root + key + "%00", root + key + "%0d%0aMetadata-Flavor:%20Google", root + key + "?Metadata-Flavor=Google", root + "PROJECT/project-id",
		root + sa + "default//token", root + sa + "default/../default/token", root + sa + "/token", root + sa + "default/token/", root + sa + "default/token%00", root + sa + "default/token;x=y",
		"/%2F", "/.", "//", "*",
	} {
		cases = append(cases, row{"robustness/no flavor header: " + trick, Inferred, noWay, refusedOrClosed(bare("GET", trick))})
	}
	return cases
}

// notHTTP is the beginning of a TLS connection.
const notHTTP = "\x16\x03\x01\x00\x05hello\r\n\r\n"

// padding is 64 KiB of headers, more than any client sends.
func padding() []string {
	headers := make([]string, 640)
	for i := range headers {
		headers[i] = "X-Padding: " + strings.Repeat("x", 90)
	}
	return headers
}

// keepAlive sends requests one after the other on one connection. Each must have the
// answer that it has on its own connection.
func keepAlive(requests ...string) check {
	return func(s *session) error {
		return s.expectSameAlone(s.withConn(func(c *conn) (replies []reply) {
			for _, request := range requests {
				_, err := io.WriteString(c, request)
				replies = append(replies, s.read(c, request, err))
			}
			return replies
		}))
	}
}

// pipelined sends all requests in one write.
func pipelined(requests ...string) check {
	return func(s *session) error { return s.expectSameAlone(s.pipeline(requests...)) }
}

// expectSameAlone compares each answer with the answer to the same request on its own
// connection.
func (s *session) expectSameAlone(replies []reply) error {
	for _, r := range replies {
		alone := s.send(r.request)
		same := func(_ *session, r reply) string {
			return unless(r.body == alone.body, "the body that the request gets on its own connection, %q", alone.body)
		}
		if err := s.expect(r, status(alone.status), same); err != nil {
			return err
		}
	}
	return nil
}

// closesAfter is a value and the end of the connection.
func closesAfter(request string) check {
	return func(s *session) error { return s.expect(s.sendAndReadToEOF(request), status(200)) }
}

// refusedOrClosed is a refusal, or a connection that the server closes without an
// answer.
func refusedOrClosed(request string, expectations ...expectation) check {
	return func(s *session) error {
		r := s.send(request)
		if r.closed {
			return nil
		}
		return s.expect(r, append([]expectation{refused, noToken}, expectations...)...)
	}
}

// valueOrForbidden is the answer to another request, or 403.
func valueOrForbidden(request string) expectation {
	value := both(status(http.StatusOK), sameAs(request))
	return func(s *session, r reply) string {
		if r.status == http.StatusForbidden {
			return ""
		}
		return value(s, r)
	}
}
