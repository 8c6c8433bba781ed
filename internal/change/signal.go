// Package change answers one question: has a value changed since a goroutine read it?
// It must not know the value.
package change

import "sync"

// Signal wakes all goroutines that wait for the next change. The zero value is ready
// to use, and the methods are safe for concurrent use.
type Signal struct {
	mu   sync.Mutex
	next chan struct{}
}

// Next returns a channel that the next Raise closes. Call it before you read the
// value, so that no change between the two is missed.
func (s *Signal) Next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

// Raise closes the channels that Next has returned. Call it after each change.
func (s *Signal) Raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}
