package identity

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	confirmTimeout = 300 * time.Millisecond // Ruby's client waits 500 ms in all
	confirmPause   = 5 * time.Second        // after the API server did not answer
)

// confirmer asks the API server whether a pod that the watch knows is still
// there. The watch lags by some milliseconds, in which a new pod may already send
// from the address of one that is gone. It is asked once for each connection that
// is known by its address alone, and at most once at a time for each pod.
type confirmer struct {
	pods    Pods
	now     func() time.Time
	count   func(result string)
	flights singleflight.Group
	paused  atomic.Int64 // Unix nanoseconds until when nobody is asked
}

// holds says whether pod still exists with the address ip and has not ended. Where
// the API server does not answer, the watch is believed: without it no pod is
// bound to the node or deleted from it either.
func (c *confirmer) holds(ctx context.Context, pod *corev1.Pod, ip netip.Addr) bool {
	for again := false; ; again = true {
		if c.now().UnixNano() < c.paused.Load() {
			c.count("unavailable")
			return true
		}
		mine := false
		answer := c.flights.DoChan(string(pod.UID)+" "+ip.String(), func() (any, error) {
			mine = true
			return c.ask(context.WithoutCancel(ctx), pod, ip), nil
		})
		select {
		case r := <-answer:
			// An answer that was under way before this connection came is too old
			// for it; the one after that is not.
			if held := r.Val.(bool); mine || again || !held {
				return held
			}
		case <-ctx.Done():
			return false
		}
	}
}

func (c *confirmer) ask(ctx context.Context, pod *corev1.Pod, ip netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	now, err := c.pods.Pod(ctx, pod.Namespace, pod.Name)
	switch {
	case apierrors.IsNotFound(err):
		c.count("gone")
		return false
	case err != nil:
		c.paused.Store(c.now().Add(confirmPause).UnixNano())
		c.count("unavailable")
		return true
	case now.UID != pod.UID || !alive(now) || !slices.Contains(ownIPs(now), ip.String()):
		c.count("gone")
		return false
	}
	c.count("held")
	return true
}
