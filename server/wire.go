package server

import (
	"bytes"
	"net"
	"slices"
)

// wrapped gives each accepted connection its place in the server.
type wrapped struct{ net.Listener }

func (l wrapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &peer{Conn: c}, nil
}

// peer adds our headers to what net/http answers by itself.
type peer struct {
	net.Conn
	visit
}

func (c *peer) Write(b []byte) (int, error) {
	if !ownAnswer(b) {
		return c.Conn.Write(b)
	}
	line, rest, _ := bytes.Cut(b, []byte("\r\n"))
	headers := "\r\n" + flavorHeader + ": " + flavor + "\r\nServer: " + product + "\r\n"
	if _, err := c.Conn.Write(slices.Concat(line, []byte(headers), rest)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// ownAnswer says whether net/http answers by itself, with one write, to what is no
// proper request: 400, 417, 431, 501 and 505.
func ownAnswer(b []byte) bool {
	return (bytes.HasPrefix(b, []byte("HTTP/1.1 4")) || bytes.HasPrefix(b, []byte("HTTP/1.1 5"))) &&
		bytes.Contains(b, []byte("\r\nConnection: close\r\n")) &&
		!bytes.Contains(b, []byte("\r\n"+flavorHeader+": "))
}

// CloseWrite is what net/http ends such an answer with, so that it arrives before
// the reset.
func (c *peer) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
