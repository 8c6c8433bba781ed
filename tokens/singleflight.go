package tokens

import (
	"context"

	"golang.org/x/sync/singleflight"
)

var errClosed = &Error{Kind: Unavailable, Message: "The metadata server is shutting down"}

// flights makes one call upstream of many equal requests at once. The call is the
// engine's own: it goes on when all who wait for it have gone, so that whatever
// must remember its result is a part of the call.
type flights[T any] struct {
	tasks *tasks
	group singleflight.Group
}

// start makes a call unless an equal one is under way; its result comes on the
// channel, which nobody need read.
func (f *flights[T]) start(key string, call func(context.Context) (T, error)) <-chan singleflight.Result {
	return f.group.DoChan(key, func() (any, error) {
		var result T
		err := error(errClosed)
		f.tasks.run(func(ctx context.Context) { result, err = call(ctx) })
		return result, err
	})
}

// do makes a call unless an equal one is under way, and waits for it until ctx ends.
func (f *flights[T]) do(ctx context.Context, key string, call func(context.Context) (T, error)) (T, error) {
	select {
	case flight := <-f.start(key, call):
		return flight.Val.(T), flight.Err
	case <-ctx.Done():
		var none T
		return none, unreachable("get an answer", "Google", ctx.Err())
	}
}
