package conformance

import (
	"net/url"
	"strings"

	"gke-metadata-emulator/internal/wellknown"
)

const (
	root    = "/computeMetadata/v1/"
	sa      = "instance/service-accounts/"
	flavor  = "Metadata-Flavor: Google"
	dnsName = wellknown.MetadataHost
	address = wellknown.MetadataIPv4
)

// A request is the exact bytes that are sent, except for these placeholders:
//
//	{host}       host and port of the server
//	{email}      the e-mail address of the caller's account: the value of default/email
//	{collapsed}  the same, with double slashes collapsed
//	{escaped}    the same, percent-encoded
//	{audience}   the audience of ID tokens, as a query parameter

// get is a request as Google's clients send it. A path that does not begin with a
// slash is below /computeMetadata/v1/.
func get(path string, headers ...string) string {
	return bare("GET", path, append([]string{flavor}, headers...)...)
}

// bare is a request with only the given headers and Host.
func bare(method, path string, headers ...string) string {
	return requestTo(dnsName, method, path, headers...)
}

func requestTo(host, method, path string, headers ...string) string {
	return head(append([]string{method + " " + fullPath(path) + " HTTP/1.1", "Host: " + host}, headers...)...)
}

// head is the head of a request, of its lines.
func head(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

func fullPath(path string) string {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, "http://") {
		return path
	}
	return root + path
}

// fill replaces the placeholders of a request.
func (s *session) fill(request string) (string, error) {
	values := []string{"{host}", s.options.Target, "{audience}", url.QueryEscape(s.options.Audience)}
	if strings.Contains(request, "{email}") || strings.Contains(request, "{collapsed}") || strings.Contains(request, "{escaped}") {
		email, err := s.email()
		if err != nil {
			return "", err
		}
		values = append(values, "{email}", email, "{collapsed}", strings.ReplaceAll(email, "//", "/"),
			"{escaped}", strings.NewReplacer("@", "%40", "/", "%2F", ":", "%3A").Replace(email))
	}
	return strings.NewReplacer(values...).Replace(request), nil
}

// target is the request target: the part between method and version.
func target(request string) string {
	line, _, _ := strings.Cut(request, "\r\n")
	_, line, _ = strings.Cut(line, " ")
	line, _, _ = strings.Cut(line, " HTTP/")
	return line
}
