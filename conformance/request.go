package conformance

import (
	"net/url"
	"strings"
)

const (
	root    = "/computeMetadata/v1/"
	sa      = "instance/service-accounts/"
	flavor  = "Metadata-Flavor: Google"
	dnsName = "metadata.google.internal"
	address = "169.254.169.254"
)

// A request is the exact bytes that are sent, but for what stands in braces:
//
//	{host}       host and port of the server
//	{email}      the e-mail address of the caller's account, as default/email says
//	{collapsed}  the same with double slashes made single
//	{escaped}    the same, percent-encoded
//	{audience}   the audience of ID tokens, as a query parameter

// get is a request as Google's clients send it. A path that does not begin with a
// slash is below /computeMetadata/v1/.
func get(path string, headers ...string) string {
	return bare("GET", path, append([]string{flavor}, headers...)...)
}

// bare is a request with the headers given and Host alone.
func bare(method, path string, headers ...string) string {
	return to(dnsName, method, path, headers...)
}

func to(host, method, path string, headers ...string) string {
	return lines(append([]string{method + " " + full(path) + " HTTP/1.1", "Host: " + host}, headers...)...)
}

// lines are the head of a request.
func lines(all ...string) string { return strings.Join(all, "\r\n") + "\r\n\r\n" }

func full(path string) string {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, "http://") {
		return path
	}
	return root + path
}

// fill puts in what stands in braces.
func (s *session) fill(request string) (string, error) {
	fill := []string{"{host}", s.options.Target, "{audience}", url.QueryEscape(s.options.Audience)}
	if strings.Contains(request, "{email}") || strings.Contains(request, "{collapsed}") || strings.Contains(request, "{escaped}") {
		email, err := s.email()
		if err != nil {
			return "", err
		}
		fill = append(fill, "{email}", email, "{collapsed}", strings.ReplaceAll(email, "//", "/"),
			"{escaped}", strings.NewReplacer("@", "%40", "/", "%2F", ":", "%3A").Replace(email))
	}
	return strings.NewReplacer(fill...).Replace(request), nil
}

// target is the request's: what stands between its method and its version.
func target(request string) string {
	line, _, _ := strings.Cut(request, "\r\n")
	_, line, _ = strings.Cut(line, " ")
	line, _, _ = strings.Cut(line, " HTTP/")
	return line
}
