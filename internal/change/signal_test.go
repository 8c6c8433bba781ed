package change

import "testing"

func TestSignal_RaiseWakesAllCurrentWaiters(t *testing.T) {
	var s Signal
	s.Raise() // without a waiter
	first, second := s.Next(), s.Next()
	select {
	case <-first:
		t.Error("an earlier Raise woke a waiter")
	default:
	}
	s.Raise()
	for _, next := range []<-chan struct{}{first, second} {
		select {
		case <-next:
		default:
			t.Error("Raise did not wake a waiter")
		}
	}
	select {
	case <-s.Next():
		t.Error("an earlier Raise woke a waiter")
	default:
	}
}
