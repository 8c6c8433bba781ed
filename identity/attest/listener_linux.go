package attest

import (
	"net"
	"net/netip"

	"gke-metadata-emulator/identity"
)

// Listener asks the kernel for the pod at the other end of each connection when it is
// accepted. The proof travels with the connection: the kernel's record is gone once
// it is read, and a connection can live for hours.
func (a *Attestor) Listener(l net.Listener) net.Listener { return listener{l, a} }

type listener struct {
	net.Listener
	attestor *Attestor
}

func (l listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	seen := identity.Connection{Remote: addrPort(accepted.RemoteAddr()), Local: addrPort(accepted.LocalAddr())}
	proof := l.attestor.prove(clientTuple(accepted, seen), seen)
	return &conn{Conn: accepted, attestor: l.attestor, seen: seen, proof: proof}, nil
}

// conn is an accepted connection with the proof of its caller. It is constant.
type conn struct {
	net.Conn
	attestor *Attestor
	seen     identity.Connection
	proof    proof
}

// PodUID is the UID of the pod at the other end, if the kernel proves one; else it is
// empty. It groups connections for limits. For an identity, see [conn.Caller].
func (c *conn) PodUID() string { return c.proof.podUID }

// Caller implements [identity.Attested]. It applies the attestor's policy to the proof.
func (c *conn) Caller() (identity.Caller, error) { return c.attestor.caller(c.proof, c.seen) }

// CloseWrite is how net/http ends some refusals, so the client reads them before the
// connection is reset.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// clientTuple is the connection as the client sees it. If the destination was
// translated on the way, conntrack knows the original one.
func clientTuple(c net.Conn, seen identity.Connection) Tuple {
	t := Tuple{Client: seen.Remote, Server: seen.Local}
	if original, ok := originalDestination(c, seen.Remote.Addr()); ok {
		t.Server = original
	}
	return t
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return netip.AddrPortFrom(tcp.AddrPort().Addr().Unmap().WithZone(""), tcp.AddrPort().Port())
	}
	return netip.AddrPort{}
}
