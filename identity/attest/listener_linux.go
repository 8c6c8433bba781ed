package attest

import (
	"net"
	"net/netip"
	"sync"

	"gke-metadata-emulator/identity"
)

// Listener proves who is at the other end of each connection when it is accepted,
// and keeps the proof for as long as the connection is open: the kernel's record
// is of the moment, and a connection may live for hours.
func (a *Attestor) Listener(l net.Listener) net.Listener { return listener{l, a} }

type listener struct {
	net.Listener
	attestor *Attestor
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	of := identity.Connection{Remote: addrPort(c.RemoteAddr()), Local: addrPort(c.LocalAddr())}
	proved := l.attestor.prove(clientTuple(c, of), of)
	l.attestor.kept.add(of, proved)
	return &conn{Conn: c, podUID: proved.podUID, of: of, kept: &l.attestor.kept}, nil
}

// conn forgets its proof before its addresses and ports are free for others.
type conn struct {
	net.Conn
	podUID string
	of     identity.Connection
	kept   *proofs
	closed sync.Once
}

// PodUID is the pod at the other end, as the kernel proves it; empty where it does
// not. It tells callers apart, and gives none an identity: see [Attestor.Attest].
func (c *conn) PodUID() string { return c.podUID }

// CloseWrite is what net/http ends some refusals with, so that they arrive.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *conn) Close() error {
	c.closed.Do(func() { c.kept.remove(c.of) })
	return c.Conn.Close()
}

// clientTuple is a connection as the client sees it: where its destination was
// translated on the way, conntrack knows the one it had before.
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

// proofs are those of the open connections.
type proofs struct {
	mu sync.Mutex
	of map[identity.Connection]proof
}

func (p *proofs) add(c identity.Connection, of proof) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[c] = of
}

func (p *proofs) remove(c identity.Connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, c)
}

func (p *proofs) get(c identity.Connection) (proof, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of, found := p.of[c]
	return of, found
}
