package tokens

import (
	"iter"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// fairLRU is a bounded set of entries with one LRU list for each KSA. The KSA with most
// entries loses one if the set is full: a KSA that invents endless audiences evicts its
// own tokens. While others need no room, one KSA can have all of it. The caller
// synchronises.
type fairLRU struct {
	size  int
	len   int
	byKSA map[string]*simplelru.LRU[key, *entry] // by the KSA's UID; no list is empty
}

func newFairLRU(size int) *fairLRU {
	return &fairLRU{size: size, byKSA: map[string]*simplelru.LRU[key, *entry]{}}
}

// get returns an entry or nil, and marks it as the last used.
func (l *fairLRU) get(k key) *entry {
	if list := l.byKSA[k.ksa]; list != nil {
		e, _ := list.Get(k)
		return e
	}
	return nil
}

// peek returns an entry or nil, without marking it as used.
func (l *fairLRU) peek(k key) *entry {
	if list := l.byKSA[k.ksa]; list != nil {
		e, _ := list.Peek(k)
		return e
	}
	return nil
}

// add inserts an entry whose key is not in the set.
func (l *fairLRU) add(k key, e *entry) {
	if l.len >= l.size {
		l.evict(k.ksa)
	}
	list := l.byKSA[k.ksa]
	if list == nil {
		// A list never evicts by itself, as it has the size of the whole set. NewLRU
		// fails only for a size that is not positive.
		list, _ = simplelru.NewLRU(l.size, func(_ key, e *entry) { e.stop(); l.len-- })
		l.byKSA[k.ksa] = list
	}
	list.Add(k, e)
	l.len++
}

// evict removes the least recently used entry of the KSA with most entries, and of the
// given KSA if it is one of several.
func (l *fairLRU) evict(ksa string) {
	largest, size := "", 0
	for uid, list := range l.byKSA {
		if n := list.Len(); n > size || n == size && uid == ksa {
			largest, size = uid, n
		}
	}
	if size > 0 {
		l.byKSA[largest].RemoveOldest()
		l.removeIfEmpty(largest)
	}
}

func (l *fairLRU) remove(k key) {
	if list := l.byKSA[k.ksa]; list != nil {
		list.Remove(k)
		l.removeIfEmpty(k.ksa)
	}
}

func (l *fairLRU) removeIfEmpty(ksa string) {
	if l.byKSA[ksa].Len() == 0 {
		delete(l.byKSA, ksa)
	}
}

// all iterates over the entries. The loop may remove the current entry.
func (l *fairLRU) all() iter.Seq2[key, *entry] {
	return func(yield func(key, *entry) bool) {
		for _, list := range l.byKSA {
			for _, k := range list.Keys() {
				if e, _ := list.Peek(k); e != nil && !yield(k, e) {
					return
				}
			}
		}
	}
}

// isRecent reports whether k is one of the n last used keys of its KSA.
func (l *fairLRU) isRecent(k key, n int) bool {
	list := l.byKSA[k.ksa]
	if list == nil {
		return false
	}
	keys := list.Keys() // the last is the newest
	for _, other := range keys[max(0, len(keys)-n):] {
		if other == k {
			return true
		}
	}
	return false
}
