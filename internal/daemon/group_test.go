package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestOneComponentThatFailsEndsAllOthers(t *testing.T) {
	broken := errors.New("broken")
	g := newGroup(t.Context())
	listener, err := listen("admin-listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.serveHTTP("admin server", listener, http.NotFoundHandler())
	g.Go(func() error { return broken })
	if err := g.Wait(); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if conn, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("the other still listens")
	}
}

func TestAGroupThatIsAbandonedEndsWhatItStarted(t *testing.T) {
	broken := errors.New("broken")
	g := newGroup(t.Context())
	ended := false
	g.Go(func() error {
		select {
		case <-g.ctx.Done():
			ended = true
		case <-time.After(10 * time.Second):
		}
		return nil
	})
	if err := g.abandon(broken); !errors.Is(err, broken) || !ended {
		t.Errorf("error %v, ended %t", err, ended)
	}
}

func TestAServerThatFailsIsNamed(t *testing.T) {
	g := newGroup(t.Context())
	listener, err := listen("admin-listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	g.serveHTTP("admin server", listener, http.NotFoundHandler())
	if err := g.Wait(); err == nil || !strings.HasPrefix(err.Error(), "admin server on "+listener.Addr().String()) {
		t.Errorf("error %v", err)
	}
}

func TestAnAddressThatIsTakenIsAnErrorThatNamesTheFlag(t *testing.T) {
	taken, err := listen("listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := listen("admin-listen", taken.Addr().String()); err == nil || !strings.HasPrefix(err.Error(), "--admin-listen: ") || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v", err)
	}
}

// retry must not outlive the group that runs it.
func TestARetryEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := retry(ctx, func(context.Context) error {
		calls++
		cancel()
		return errors.New("failed")
	})
	if err != nil || calls != 1 {
		t.Errorf("error %v after %d calls", err, calls)
	}
}
