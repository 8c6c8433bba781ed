package daemon

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
)

// runGroup runs components until one fails or the context ends.
type runGroup struct {
	group    *errgroup.Group
	ctx      context.Context // of the components
	stop     context.CancelFunc
	closures *[]func()
}

func newRunGroup(ctx context.Context) runGroup {
	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	return runGroup{group, ctx, stop, new([]func())}
}

// run starts a component. If it fails, the others are stopped.
func (g runGroup) run(component func(context.Context) error) {
	g.group.Go(func() error { return component(g.ctx) })
}

// onClose calls f when all components have ended, before the functions of earlier
// calls: a component is closed before those that it was made of.
func (g runGroup) onClose(f func()) { *g.closures = append(*g.closures, f) }

// wait returns when all components have ended.
func (g runGroup) wait() error { return g.group.Wait() }

// close stops the components, waits for them, and calls the functions of onClose.
func (g runGroup) close() {
	g.stop()
	_ = g.group.Wait()
	for _, f := range slices.Backward(*g.closures) {
		f()
	}
}
