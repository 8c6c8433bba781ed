package daemon

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestRunGroup_StopsAllComponentsIfOneFails(t *testing.T) {
	broken := errors.New("broken")
	g := newRunGroup(t.Context())
	defer g.close()
	ended := false
	g.run(func(ctx context.Context) error {
		<-ctx.Done()
		ended = true
		return nil
	})
	g.run(func(context.Context) error { return broken })
	if err := g.wait(); !errors.Is(err, broken) || !ended {
		t.Errorf("error %v, ended %t", err, ended)
	}
}

func TestRunGroup_ClosesInReverseOrderAfterTheComponentsHaveEnded(t *testing.T) {
	g := newRunGroup(t.Context())
	var order []string
	g.onClose(func() { order = append(order, "first") })
	g.run(func(ctx context.Context) error {
		<-ctx.Done()
		order = append(order, "component")
		return nil
	})
	g.onClose(func() { order = append(order, "second") })
	g.close()
	if want := []string{"component", "second", "first"}; !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
}
