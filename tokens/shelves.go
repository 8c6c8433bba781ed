package tokens

import (
	"iter"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// shelves are a bounded set of entries, on a shelf for each KSA. What makes room is
// the KSA's that has most: one that invents endless audiences drives out its own.
// Where others leave room one KSA may have it all.
type shelves struct {
	size int
	held int
	of   map[string]*simplelru.LRU[key, *entry] // by the KSA's UID; none is empty
}

func newShelves(size int) *shelves {
	return &shelves{size: size, of: map[string]*simplelru.LRU[key, *entry]{}}
}

// get returns an entry that somebody asks for, or nil.
func (s *shelves) get(k key) *entry {
	if shelf := s.of[k.ksa]; shelf != nil {
		e, _ := shelf.Get(k)
		return e
	}
	return nil
}

// peek returns an entry that nobody asks for now, or nil.
func (s *shelves) peek(k key) *entry {
	if shelf := s.of[k.ksa]; shelf != nil {
		e, _ := shelf.Peek(k)
		return e
	}
	return nil
}

// add puts an entry that is not there.
func (s *shelves) add(k key, e *entry) {
	if s.held >= s.size {
		s.makeRoom(k.ksa)
	}
	shelf := s.of[k.ksa]
	if shelf == nil {
		// It never evicts by itself: there is room. An error is for no size only.
		shelf, _ = simplelru.NewLRU(s.size, func(_ key, e *entry) { e.stop(); s.held-- })
		s.of[k.ksa] = shelf
	}
	shelf.Add(k, e)
	s.held++
}

// makeRoom takes the entry that was not asked for for longest off the fullest shelf,
// in doubt off that of the KSA which needs the room.
func (s *shelves) makeRoom(ksa string) {
	fullest, most := "", 0
	for of, shelf := range s.of {
		if n := shelf.Len(); n > most || n == most && of == ksa {
			fullest, most = of, n
		}
	}
	if most > 0 {
		s.of[fullest].RemoveOldest()
		s.tidy(fullest)
	}
}

func (s *shelves) remove(k key) {
	if shelf := s.of[k.ksa]; shelf != nil {
		shelf.Remove(k)
		s.tidy(k.ksa)
	}
}

func (s *shelves) tidy(ksa string) {
	if s.of[ksa].Len() == 0 {
		delete(s.of, ksa)
	}
}

// all are the entries; the loop may remove the one that it has.
func (s *shelves) all() iter.Seq2[key, *entry] {
	return func(yield func(key, *entry) bool) {
		for _, shelf := range s.of {
			for _, k := range shelf.Keys() {
				if e, _ := shelf.Peek(k); e != nil && !yield(k, e) {
					return
				}
			}
		}
	}
}

// among says whether an entry is one of the n of its KSA that were asked for last.
func (s *shelves) among(n int, k key) bool {
	shelf := s.of[k.ksa]
	if shelf == nil {
		return false
	}
	keys := shelf.Keys() // the last is the newest
	for _, other := range keys[max(0, len(keys)-n):] {
		if other == k {
			return true
		}
	}
	return false
}
