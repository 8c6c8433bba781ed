package tokens

import (
	"context"

	"golang.org/x/sync/singleflight"
)

var errClosed = &Error{Kind: Unavailable, Message: "The metadata server is shutting down"}

// flights turns many equal requests at once into one upstream call. The call belongs
// to the engine: it goes on when all its callers have given up. Therefore anything that
// has to remember its result is part of the call.
type flights[T any] struct {
	background *background
	group      singleflight.Group
}

// start makes a call unless an equal one is in flight. The channel receives the result;
// it need not be read.
func (f *flights[T]) start(key string, call func(context.Context) (T, error)) <-chan singleflight.Result {
	return f.group.DoChan(key, func() (any, error) {
		var result T
		err := error(errClosed)
		f.background.run(func(ctx context.Context) { result, err = call(ctx) })
		return result, err
	})
}

// do makes a call unless an equal one is in flight, and waits for it until ctx ends.
func (f *flights[T]) do(ctx context.Context, key string, call func(context.Context) (T, error)) (T, error) {
	select {
	case flight := <-f.start(key, call):
		return flight.Val.(T), flight.Err
	case <-ctx.Done():
		var none T
		return none, unreachable("complete the request", "Google", ctx.Err())
	}
}
