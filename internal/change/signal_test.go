package change

import "testing"

func TestARaiseWakesAllWhoWaitAndNobodyAfterwards(t *testing.T) {
	var s Signal
	s.Raise() // nobody waits
	first, second := s.Next(), s.Next()
	select {
	case <-first:
		t.Error("woken by what was before")
	default:
	}
	s.Raise()
	for _, next := range []<-chan struct{}{first, second} {
		select {
		case <-next:
		default:
			t.Error("not woken")
		}
	}
	select {
	case <-s.Next():
		t.Error("woken by what was before")
	default:
	}
}
