package tokens

import (
	"context"

	"gke-metadata-emulator/identity"
)

const (
	maxMints         = 32  // at a time
	maxMintsPerPod   = 4   // of them
	maxWaitingPerPod = 128 // further requests of the pod are refused with Retry-After
)

// limited bounds how many tokens are minted at a time. Under load the pods take turns,
// however much one of them requests.
type limited struct {
	next  Source
	slots *fairSemaphore
}

// AccessToken implements [Source].
func (l limited) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	if err := l.slots.acquire(ctx, w); err != nil {
		return Token{}, err
	}
	defer l.slots.release(w.Pod.UID)
	return l.next.AccessToken(ctx, w, scopes)
}

// IDToken implements [Source].
func (l limited) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	if err := l.slots.acquire(ctx, w); err != nil {
		return Token{}, err
	}
	defer l.slots.release(w.Pod.UID)
	return l.next.IDToken(ctx, w, request)
}
