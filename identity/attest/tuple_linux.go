package attest

import (
	"net/netip"
)

// Tuple is a TCP connection as its client's socket sees it. Where the address was
// translated on the way, this is not what the server sees.
type Tuple struct {
	Client, Server netip.AddrPort
}

// key is a [Tuple] as the programs in the kernel write it: IPv4 in IPv6 form,
// ports in the machine's byte order.
type key struct {
	Client, Server         [16]byte
	ClientPort, ServerPort uint16
}

func (t Tuple) key() key {
	return key{t.Client.Addr().As16(), t.Server.Addr().As16(), t.Client.Port(), t.Server.Port()}
}
