package daemon

import (
	"errors"
	"net"
	"os"
	"testing"

	"gke-metadata-emulator/internal/config"
)

func TestListen_NamesTheFlagAndARemedy(t *testing.T) {
	taken, err := Listen("listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = Listen("admin-listen", taken.Addr().String())
	flagError(t, err, "admin-listen", "address already in use; another program listens there (ss -ltnp shows which): stop it, or give another port")
	_, err = Listen("fake-listen", "192.0.2.99:0") // reserved for documentation, RFC 5737
	flagError(t, err, "fake-listen", "cannot assign requested address; give an address of this machine")
	if _, err := net.Listen("tcp", "127.0.0.1:1"); errors.Is(err, os.ErrPermission) {
		_, err = Listen("listen", "127.0.0.1:1")
		flagError(t, err, "listen", "permission denied; ports below 1024 need root")
	}
}

func TestOpenListeners_ClosesTheFirstIfTheSecondFails(t *testing.T) {
	taken, err := Listen("listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := Listen("listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	_, err = openListeners(config.Listen{Address: address, Admin: taken.Addr().String()})
	flagError(t, err, "admin-listen", "address already in use")
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("the first listener is still open")
	}
}
