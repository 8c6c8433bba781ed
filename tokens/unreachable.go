package tokens

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// cause is why a request got no response. The zero cause is an unknown one.
type cause struct {
	host   string // of the URL, or empty
	text   string // completes the sentence "HOST: …"
	remedy string // %s is the host
	anchor string // heading of docs/troubleshooting.md
}

// unreachable is the [*Error] of a call without a response. The task completes the
// sentence "Unable to …".
func unreachable(task, service string, err error) *Error {
	problem := "could not be reached"
	if timedOut(err) {
		problem = "did not answer in time"
	}
	e := &Error{Kind: Unavailable, Message: fmt.Sprintf("Unable to %s; %s %s", task, service, problem), Err: err}
	c := causeOf(err)
	if c.host == "" {
		return e
	}
	e.Detail = err.Error()
	e.Message += ": " + c.host
	if c.text != "" {
		e.Message += ": " + c.text
	}
	e.Message += "\n" + fmt.Sprintf(c.remedy, c.host) + "\n" + seeAlso(c.anchor)
	return e
}

// causeOf finds the cause in an error of an HTTP client. It knows none without a URL, and
// none if the request was canceled.
func causeOf(err error) cause {
	var request *url.Error
	if !errors.As(err, &request) || errors.Is(err, context.Canceled) {
		return cause{}
	}
	host := request.URL
	if u, err := url.Parse(request.URL); err == nil {
		host = u.Host
	}
	c := classify(request.Err)
	c.host = host
	return c
}

const connectionRemedy = "Allow connections from the node to %s."

// classify is the table from errors of the network to causes.
func classify(err error) cause {
	var (
		connection  *net.OpError
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		alert       tls.AlertError
	)
	switch {
	case errors.As(err, &connection) && connection.Op == "proxyconnect": // first: the other causes can be the proxy's
		return cause{text: "the proxy does not connect to it", remedy: "Check HTTPS_PROXY and NO_PROXY of the daemon, and that the proxy allows %s.", anchor: "proxy"}
	case errors.As(err, &dns):
		return cause{text: "the name cannot be resolved", remedy: "Check the DNS servers of the node: they must resolve %s.", anchor: "name-not-resolved"}
	case errors.As(err, &certificate):
		return cause{text: certificateProblem(certificate), remedy: "If a proxy inspects TLS connections to %s, give its CA to the daemon with SSL_CERT_FILE.", anchor: "untrusted-certificate"}
	case errors.As(err, &record), errors.As(err, &alert), errors.Is(err, http.ErrSchemeMismatch):
		return cause{text: "the TLS handshake failed", remedy: "Check whether a proxy or a firewall answers as %s.", anchor: "untrusted-certificate"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return cause{text: "the connection was refused", remedy: connectionRemedy, anchor: "connection-refused"}
	case timedOut(err):
		return cause{remedy: "If the error persists: " + connectionRemedy, anchor: "no-answer-in-time"}
	}
	return cause{text: "the connection failed", remedy: connectionRemedy, anchor: "connection-failed"}
}

// timedOut reports whether an error is the end of a deadline, of the request or of a part
// of it.
func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func certificateProblem(err *tls.CertificateVerificationError) string {
	var (
		authority x509.UnknownAuthorityError
		roots     x509.SystemRootsError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	text := "the certificate is not valid"
	switch {
	case errors.As(err, &authority), errors.As(err, &roots):
		text = "the certificate is signed by an unknown authority"
	case errors.As(err, &hostname):
		text = "the certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		text = "the certificate has expired or is not valid yet by the node's clock"
	}
	if len(err.UnverifiedCertificates) > 0 {
		issuer := err.UnverifiedCertificates[0].Issuer
		text += fmt.Sprintf(" (issuer %q)", cmp.Or(issuer.CommonName, issuer.String()))
	}
	return text
}

// CheckProxyResponse is for [http.Transport.OnProxyConnectResponse]. Without it, the error
// of a proxy that refuses to connect has no type, and its text is that of the status.
func CheckProxyResponse(_ context.Context, proxy *url.URL, _ *http.Request, response *http.Response) error {
	if response.StatusCode == http.StatusOK {
		return nil
	}
	return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: fmt.Errorf("%s: %s", proxy.Host, response.Status)}
}
