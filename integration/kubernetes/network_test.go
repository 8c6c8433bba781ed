package kubernetes

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// echoCaller answers with the address that the caller has.
func echoCaller(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, host)
	}))
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestClient_HasItsSourceAddress(t *testing.T) {
	server := echoCaller(t)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	for _, ip := range []string{"127.0.1.7", "127.0.1.8"} {
		if caller := get(t, Client(t, ip), server.URL); caller != ip {
			t.Errorf("server sees %s, want %s", caller, ip)
		}
	}
}

func TestRelay_HasItsSourceAddress(t *testing.T) {
	server := echoCaller(t)
	relay := Relay(t, "127.0.1.9", server.Listener.Addr().String())
	if caller := get(t, Client(t, "127.0.0.1"), "http://"+relay); caller != "127.0.1.9" {
		t.Errorf("server sees %s, want 127.0.1.9", caller)
	}
}

func TestRelay_ForwardsHalfClose(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go func() { // answers with all it got, when it has all
		conn, err := target.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		all, err := io.ReadAll(conn)
		if err != nil {
			t.Error(err)
		}
		if _, err := conn.Write(all); err != nil {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("tcp", Relay(t, "127.0.1.9", target.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if _, err := conn.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes back, error %v, want the %d sent", len(got), err, len(sent))
	}
}
