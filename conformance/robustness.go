package conformance

import (
	"io"
	"net/http"
	"strings"
)

// robustnessCases are about connections, and about requests that no client sends.
func robustnessCases() []Case {
	const (
		key    = "project/project-id"
		http11 = "RFC 9112"
		noWay  = "no way around the flavor header"
	)
	id, number := get(key), get("project/numeric-project-id")
	cases := []Case{
		{"robustness/a connection is kept for the next request", Inferred, http11 + ", section 9.3", kept(id, number, id)},
		{"robustness/a connection is kept after an error", Inferred, http11 + ", section 9.3", kept(get("instance/nothing"), id)},
		{"robustness/pipelined requests are answered in order", Inferred, http11 + ", section 9.3.2", inOrder(number, get("instance/nothing"), id, number)},
		{"robustness/the body of a GET is not the next request", Inferred, http11 + ", section 6",
			inOrder(get(key, "Content-Length: 16")+"GET / HTTP/1.0\r\n", number)},
		{"robustness/HTTP/1.0 without Host", Inferred, http11 + ", section 3.2", asks(lines("GET "+root+key+" HTTP/1.0", flavor), status(200), sameAs(id))},
		{"robustness/HTTP/1.0 is not kept", Inferred, http11 + ", section 9.3", endsAfter(lines("GET "+root+key+" HTTP/1.0", flavor))},
		{"robustness/Connection: close is honoured", Inferred, http11 + ", section 9.6", endsAfter(get(key, "Connection: close"))},
		{"robustness/the whole URL as target", Inferred, http11 + ", section 3.2.2", asks(get("http://"+dnsName+root+key), status(200), sameAs(id))},
		{"robustness/the whole URL as target needs the flavor header", Inferred, noWay, asks(bare("GET", "http://"+dnsName+root+sa+"default/token"), refused, noToken)},
		{"robustness/characters that need not be encoded may be", Inferred, "RFC 3986, section 6.2.2.2", asks(get("project/%70roject%2Did"), status(200), sameAs(id))},
		{"robustness/many headers are no flavor header", Inferred, noWay, asks(bare("GET", sa+"default/token", padding()...), refused, noToken)},
		{"robustness/an overlong path is no flavor header", Inferred, noWay, asks(bare("GET", sa+strings.Repeat("x", 64<<10)+"/token"), refused, noToken)},
		{"robustness/an overlong path is nobody's", Inferred, "it is not there", asks(get(sa+strings.Repeat("x", 64<<10)+"/token"), refused, noToken)},
		{"robustness/what is not HTTP gets no value", Inferred, http11 + ", section 3", refusedOrClosed(notHTTP)},
		{"robustness/a method that nobody knows gets no value", Inferred, "the metadata is read only", asks(bare("BREW", sa+"default/token", flavor), func(_ *session, r reply) string {
			return unless(r.status >= 400, "a status from 400")
		}, noToken)},
	}
	cases = append(cases, Case{"robustness/a Host that is nobody's", Inferred, "the address is reached by any name; a guard against DNS rebinding refuses this one",
		asks(to("elsewhere.example:8080", "GET", key, flavor), valueOrForbidden(id))})
	for _, host := range []string{address, dnsName, dnsName + ".", "metadata", "{host}"} {
		cases = append(cases, Case{"robustness/Host: " + host, Client, "clients name it by address, by name, by name with a dot at the end, or by GCE_METADATA_HOST",
			asks(to(host, "GET", key, flavor), status(200), sameAs(id))})
	}
	for _, trick := range []string{
		"/" + root + key, "/./computeMetadata/v1/" + key, "/x/../computeMetadata/v1/" + key,
		root + "../v1/" + key, root + "%2e%2e/v1/" + key, root + "/" + key, "/computeMetadata%2Fv1%2F" + key, "/%63omputeMetadata/v1/" + key,
		root + key + "/", root + key + "/..", root + key + "%00", root + key + "%0d%0aMetadata-Flavor:%20Google", root + key + "?Metadata-Flavor=Google", root + "PROJECT/project-id",
		root + sa + "default//token", root + sa + "default/../default/token", root + sa + "/token", root + sa + "default/token/", root + sa + "default/token%00", root + sa + "default/token;x=y",
		"/%2F", "/.", "//", "*",
	} {
		cases = append(cases, Case{"robustness/no flavor header: " + trick, Inferred, noWay, refusedOrClosed(bare("GET", trick))})
	}
	return cases
}

// notHTTP is how somebody begins who takes the server for one of TLS.
const notHTTP = "\x16\x03\x01\x00\x05hello\r\n\r\n"

// padding is more than any client sends: 64 KiB of headers.
func padding() []string {
	headers := make([]string, 640)
	for i := range headers {
		headers[i] = "X-Padding: " + strings.Repeat("x", 90)
	}
	return headers
}

// kept sends each request when the one before has been answered, on one connection,
// and wants the answers that each has alone.
func kept(requests ...string) check {
	return func(s *session) error {
		return s.asAlone(s.on(func(c *conn) (replies []reply) {
			for _, request := range requests {
				_, err := io.WriteString(c, request)
				replies = append(replies, s.read(c, request, err))
			}
			return replies
		}))
	}
}

// inOrder sends all at once.
func inOrder(requests ...string) check {
	return func(s *session) error { return s.asAlone(s.converse(requests...)) }
}

func (s *session) asAlone(replies []reply) error {
	for _, r := range replies {
		alone := s.ask(r.request)
		same := func(_ *session, r reply) string {
			return unless(r.body == alone.body, "the body that it has alone, %q", alone.body)
		}
		if err := s.expect(r, status(alone.status), same); err != nil {
			return err
		}
	}
	return nil
}

// endsAfter wants a value, and the end of the connection.
func endsAfter(request string) check {
	return func(s *session) error { return s.expect(s.toTheEnd(request), status(200)) }
}

// refusedOrClosed allows a server to hang up on what is not a request.
func refusedOrClosed(request string, expectations ...expectation) check {
	return func(s *session) error {
		r := s.ask(request)
		if r.closed {
			return nil
		}
		return s.expect(r, append([]expectation{refused, noToken}, expectations...)...)
	}
}

// valueOrForbidden is the value that another path has, or 403.
func valueOrForbidden(path string) expectation {
	value := both(status(http.StatusOK), sameAs(path))
	return func(s *session, r reply) string {
		if r.status == http.StatusForbidden {
			return ""
		}
		return value(s, r)
	}
}
