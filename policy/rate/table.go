package rate

import (
	"sync"
	"sync/atomic"

	"github.com/hull-go/hull/policy"
)

// ways is how many keys share a set: with the mutex they fill two cache lines.
const ways = 7

// table holds the buckets of a bounded number of keys.
type table struct {
	sets []set
	mask uint64
}

// set is the places that a key can have. Reading and charging need no lock: a place that changes hands gets another tat, so a charge
// meant for the key before fails.
type set struct {
	mu   sync.Mutex // held while a key moves in
	keys [ways]atomic.Uint64
	tat  [ways]atomic.Int64
	_    [128 - 8 - 2*8*ways]byte
}

// newTable makes room for at least twice as many keys as n, because hashes do not spread evenly: then about one key in a
// hundred finds its set full.
func newTable(n int) *table {
	sets := 1
	for sets*ways < 2*n {
		sets *= 2
	}
	return &table{sets: make([]set, sets), mask: uint64(sets - 1)}
}

// set returns the key's set. Zero marks an empty place, so no key is zero.
func (t *table) set(key uint64) *set { return &t.sets[key&t.mask] }

func (s *set) find(key uint64) int {
	for i := range s.keys {
		if s.keys[i].Load() == key {
			return i
		}
	}
	return -1
}

// moveIn gives key a place with a full bucket, and reports whether a key lost more than its place by that.
func (s *set) moveIn(now policy.Time, key uint64) (i int, forgot bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i = s.find(key); i >= 0 {
		return i, false
	}
	i = 0
	for j := range s.keys {
		if s.keys[j].Load() == 0 {
			i = j
			break
		}
		if s.tat[j].Load() < s.tat[i].Load() {
			i = j
		}
	}
	forgot = s.keys[i].Load() != 0 && s.tat[i].Load() > int64(now)
	s.keys[i].Store(0)
	s.tat[i].Store(0)
	s.keys[i].Store(key)
	return i, forgot
}
