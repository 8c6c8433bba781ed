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
	confirmTimeout = 300 * time.Millisecond // Ruby's client waits 500 ms in total
	confirmPause   = 5 * time.Second        // after a failed request
)

// podVerifier confirms with the API server that a pod from the watch still exists. The
// watch lags by some milliseconds, in which a new pod can already send from the address of
// a deleted one. Each connection that is identified by its address alone is confirmed
// once, with at most one request at a time for each pod and address. All methods are safe
// for concurrent use.
type podVerifier struct {
	pods        Pods
	now         func() time.Time
	countResult func(result string)
	requests    singleflight.Group
	pausedUntil atomic.Int64 // Unix nanoseconds; until then no request is sent
}

// stillOwnsIP reports whether pod still exists, has the address ip and has not ended. If
// the API server does not answer, the watch is trusted: without an API server no pod is
// bound to the node or deleted from it either.
func (v *podVerifier) stillOwnsIP(ctx context.Context, pod *corev1.Pod, ip netip.Addr) bool {
	for retried := false; ; retried = true {
		if v.now().UnixNano() < v.pausedUntil.Load() {
			v.countResult("unavailable")
			return true
		}
		leader := false
		result := v.requests.DoChan(string(pod.UID)+" "+ip.String(), func() (any, error) {
			leader = true
			return v.confirm(context.WithoutCancel(ctx), pod, ip), nil
		})
		select {
		case r := <-result:
			// A request that was sent before this connection was opened is too old to
			// confirm it. The next request is not.
			if owns := r.Val.(bool); leader || retried || !owns {
				return owns
			}
		case <-ctx.Done():
			return false
		}
	}
}

func (v *podVerifier) confirm(ctx context.Context, pod *corev1.Pod, ip netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	current, err := v.pods.Pod(ctx, pod.Namespace, pod.Name)
	switch {
	case apierrors.IsNotFound(err):
		v.countResult("gone")
		return false
	case err != nil:
		v.pausedUntil.Store(v.now().Add(confirmPause).UnixNano())
		v.countResult("unavailable")
		return true
	case current.UID != pod.UID || !alive(current) || !slices.Contains(ownIPs(current), ip.String()):
		v.countResult("gone")
		return false
	}
	v.countResult("held")
	return true
}
