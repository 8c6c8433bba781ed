package attest

import "net/netip"

// Tuple is a TCP connection as its client's socket sees it. The server sees another one
// if an address was translated on the way.
type Tuple struct {
	Client, Server netip.AddrPort
}
