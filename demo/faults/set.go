package faults

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Set is what is wrong with a node at the moment. Around a healthy node's calls it costs one atomic load. It is safe for
// concurrent use.
type Set struct {
	listener *Listener

	active atomic.Pointer[[]Fault]

	mu sync.Mutex
	on []entry
}

type entry struct {
	name  string
	fault Fault // nil for faults of the listener
}

// NewSet returns a Set with nothing wrong. l is what NameRefuse closes; nil = that fault is not offered.
func NewSet(l *Listener) *Set { return &Set{listener: l} }

// Add switches a fault on, or changes its setting.
func (s *Set) Add(name string, o Setting) error {
	f, err := build(name, o)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == NameRefuse {
		if s.listener == nil {
			return fmt.Errorf("this node's connections cannot be refused")
		}
		s.listener.Refuse()
	}
	s.on = slices.DeleteFunc(s.on, func(e entry) bool { return e.name == name })
	s.on = append(s.on, entry{name, f})
	s.publish()
	return nil
}

// Heal switches everything off.
func (s *Set) Heal(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = nil
	s.publish()
	if s.listener == nil {
		return nil
	}
	return s.listener.Restore(ctx)
}

// Names returns what is on, in the order in which it was switched on.
func (s *Set) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.on))
	for _, e := range s.on {
		names = append(names, e.name)
	}
	return names
}

// Pass runs next through every fault that is on, the latest outermost.
func (s *Set) Pass(ctx context.Context, next func(context.Context) (any, error)) (any, error) {
	list := s.active.Load()
	if list == nil {
		return next(ctx)
	}
	for _, f := range *list {
		inner := next
		next = func(ctx context.Context) (any, error) { return f.Pass(ctx, inner) }
	}
	return next(ctx)
}

// publish makes s.on what Pass sees. s.mu is held.
func (s *Set) publish() {
	var list []Fault
	for _, e := range s.on {
		if e.fault != nil {
			list = append(list, e.fault)
		}
	}
	if list == nil {
		s.active.Store(nil)
		return
	}
	s.active.Store(&list)
}

// Check returns what is wrong with a fault's name or setting, or nil.
func Check(name string, o Setting) error {
	_, err := build(name, o)
	return err
}

// build makes one fault; nil for a fault of the listener.
func build(name string, o Setting) (Fault, error) {
	switch {
	case o.Percent < 0 || o.Percent > 100:
		return nil, fmt.Errorf("percent is %d: give 1 to 100", o.Percent)
	case o.Factor < 0 || o.Factor > 1000 || o.Factor > 0 && o.Factor < 1:
		return nil, fmt.Errorf("factor is %g: give 1 to 1000", o.Factor)
	case o.Delay < 0 || o.Delay > 600_000:
		return nil, fmt.Errorf("ms is %d: give 1 to 600000", o.Delay)
	}
	switch name {
	case NameSlow:
		return newSlow(o), nil
	case NameErrors:
		return newFailing(o), nil
	case NamePanic:
		return newPanicking(o), nil
	case NameWrong:
		return newWrong(o), nil
	case NameRefuse:
		return nil, nil
	}
	return nil, fmt.Errorf("unknown fault %q", name)
}
