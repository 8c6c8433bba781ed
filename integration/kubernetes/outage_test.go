package kubernetes

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestCluster_OutageAndHang(t *testing.T) {
	c := Start(t)
	before := c.KSA(t, "default", "app", nil)
	get := func(ctx context.Context) error {
		ksa, err := c.Client.CoreV1().ServiceAccounts("default").Get(ctx, "app", metav1.GetOptions{})
		if err == nil && ksa.UID != before.UID {
			return errors.New("another KSA")
		}
		return err
	}

	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := get(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("stopped: error is %v, want that the connection is refused", err)
	}
	if err := c.StopAPIServer(); err == nil {
		t.Error("stopped twice: no error")
	}
	if err := c.PauseAPIServer(); err == nil {
		t.Error("paused while stopped: no error")
	}

	start := time.Now()
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("StartAPIServer to ready: %s", time.Since(start).Round(time.Millisecond))
	if err := get(t.Context()); err != nil {
		t.Errorf("restarted: %v", err)
	}
	if err := c.StartAPIServer(t.Context()); err == nil {
		t.Error("started twice: no error")
	}

	if err := c.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := get(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("paused: error is %v, want no answer", err)
	}
	if err := c.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := get(t.Context()); err != nil {
		t.Errorf("resumed: %v", err)
	}

	if err := c.PauseAPIServer(); err != nil { // Close ends a paused one too
		t.Fatal(err)
	}
}
