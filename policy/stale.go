package policy

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
	"time"
)

// StaleOptions describes a Stale. Every zero means the default that stands beside it.
type StaleOptions[V any] struct {
	// MaxAge is how old a value may be to be served: 5 min.
	MaxAge time.Duration
	// Keys is for how many keys the last value is kept: 1000. Beyond that the key goes whose value is oldest.
	Keys int
	// Size returns how many bytes a value takes, and Bytes is how many all may take together; nil and 0 = only Keys bounds
	// the memory. A value that alone is larger than Bytes is not kept. Size must be safe for concurrent use.
	Size  func(V) int
	Bytes int
}

// ErrNothingKept is why a stale answer cannot be given: there was no good one for its key, or it is too old.
var ErrNothingKept = errors.New("policy: no earlier answer is kept that is young enough")

// Stale keeps the last good value of each key, to be served while calls fail. It is not a cache: a call that can be made is
// made. Values are shared by those who get them and must not be changed. It is safe for concurrent use.
type Stale[K comparable, V any] struct {
	opt StaleOptions[V]

	mu    sync.Mutex
	by    map[K]*list.Element // of *staleValue
	order list.List           // the oldest first
	bytes int
}

type staleValue[K comparable, V any] struct {
	key  K
	v    V
	at   Time
	size int
}

// NewStale returns a Stale that holds nothing. The error names everything that is wrong with o.
func NewStale[K comparable, V any](o StaleOptions[V]) (*Stale[K, V], error) {
	var errs []error
	if o.MaxAge < 0 {
		errs = append(errs, fmt.Errorf("option MaxAge is %v: want a positive time, or 0 for 5m", o.MaxAge))
	}
	if o.Keys < 0 {
		errs = append(errs, fmt.Errorf("option Keys is %d: want a positive number, or 0 for 1000", o.Keys))
	}
	if o.Bytes < 0 || (o.Bytes > 0) != (o.Size != nil) {
		errs = append(errs, errors.New("options Bytes and Size belong together: say how large a value is and how much all may take, or neither"))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("policy: stale answers: %w", errors.Join(errs...))
	}
	if o.MaxAge == 0 {
		o.MaxAge = 5 * time.Minute
	}
	if o.Keys == 0 {
		o.Keys = 1000
	}
	return &Stale[K, V]{opt: o, by: map[K]*list.Element{}}, nil
}

// Keep remembers v as key's last good value, as it was at now.
func (s *Stale[K, V]) Keep(now Time, key K, v V) {
	size := 0
	if s.opt.Size != nil {
		size = max(s.opt.Size(v), 0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.by[key]
	switch {
	case e != nil && e.Value.(*staleValue[K, V]).at > now:
		return // a call that began earlier may end later
	case s.opt.Size != nil && size > s.opt.Bytes:
		if e != nil {
			s.remove(e)
		}
		return
	case e != nil:
		old := e.Value.(*staleValue[K, V])
		s.bytes += size - old.size
		old.v, old.at, old.size = v, now, size
		s.place(e)
	case key != key: // not a number, or a struct with one: it could not be found again
		return
	default:
		e = s.order.PushBack(&staleValue[K, V]{key, v, now, size})
		s.by[key] = e
		s.place(e)
		s.bytes += size
	}
	for s.order.Len() > s.opt.Keys || s.opt.Size != nil && s.bytes > s.opt.Bytes {
		s.remove(s.order.Front())
	}
}

// place puts a value where it belongs by its time, nearly always at the back; the caller holds mu.
func (s *Stale[K, V]) place(e *list.Element) {
	s.order.MoveToBack(e)
	at := e.Value.(*staleValue[K, V]).at
	for p := e.Prev(); p != nil && p.Value.(*staleValue[K, V]).at > at; p = e.Prev() {
		s.order.MoveBefore(e, p)
	}
}

// remove takes a value out; the caller holds mu.
func (s *Stale[K, V]) remove(e *list.Element) {
	old := s.order.Remove(e).(*staleValue[K, V])
	delete(s.by, old.key)
	s.bytes -= old.size
}

// Get returns key's last good value and its age, or false if there is none that is young enough.
func (s *Stale[K, V]) Get(now Time, key K) (v V, age time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.by[key]
	if e == nil {
		return v, 0, false
	}
	kept := e.Value.(*staleValue[K, V])
	if age = max(now.Sub(kept.at), 0); age > s.opt.MaxAge {
		s.remove(e)
		return v, 0, false
	}
	return kept.v, age, true
}

// Len returns for how many keys a value is held, those included that are too old by now.
func (s *Stale[K, V]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.by)
}

// Last is the alternative "the last good answer for key". DoAnswer remembers under key what calls with this alternative return, and
// serves it while they fail; Answer.Age says how old it is.
func (s *Stale[K, V]) Last(key K) Alternative[V] {
	return Alternative[V]{Name: "last good answer", last: &staleKey[K, V]{s, key}}
}

// staleKey is a key's place in a Stale.
type staleKey[K comparable, V any] struct {
	s   *Stale[K, V]
	key K
}

func (k *staleKey[K, V]) keep(now Time, v V) { k.s.Keep(now, k.key, v) }

func (k *staleKey[K, V]) get(now Time) (V, time.Duration, error) {
	v, age, ok := k.s.Get(now, k.key)
	if !ok {
		return v, 0, ErrNothingKept
	}
	return v, age, nil
}
