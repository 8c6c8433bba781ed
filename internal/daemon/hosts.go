package daemon

import (
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// privateDomains are the domains below which nobody gets a name in public DNS:
//   - internal: reserved by ICANN, resolution 2024.07.29.06
//   - localhost, test: RFC 6761, sections 6.3 and 6.2
//   - local: RFC 6762, section 3; includes Kubernetes' cluster.local. A machine of the
//     same link can claim such a name, as it can claim one without a dot.
//   - home.arpa: RFC 8375
//   - svc: a Kubernetes service, completed by the pod's search list. It is not reserved,
//     but it is no top-level domain (public suffix list, 2026).
var privateDomains = regexp.MustCompile(`\.(internal|localhost|test|local|home\.arpa|svc)$`)

// hostName matches the names of hosts, also those with an underscore, like Docker's.
var hostName = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)+$`)

// hostGuard decides by the host that a request names whether a web page can have sent
// it: a page of evil.example can make its name resolve to this machine (DNS rebinding),
// but the browser's requests then have the host evil.example.
type hostGuard struct {
	allowed []string // names of the operator's, in lower case
}

// check returns an error with the remedy if a public web page can have the host, which
// has no port.
func (g hostGuard) check(host string) error {
	host = strings.ToLower(strings.TrimSuffix(host, ".")) // a host is the same in any case: RFC 9110, section 4.2.3
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(host, ".") || privateDomains.MatchString(host) || slices.Contains(g.allowed, host) {
		return nil
	}
	remedy := "use its IP address, localhost or metadata.google.internal"
	if len(host) <= 253 && hostName.MatchString(host) { // the caller chose it, and somebody might paste it into a shell
		remedy += "; if it is your own name of the server, start the server with --allow-host=" + strings.Join(append(slices.Clone(g.allowed), host), ",")
	}
	return errors.New(remedy)
}
