package hull

import (
	"maps"
	"weak"

	"github.com/hull-go/hull/registry"
)

// maxServices is how many services a client watches. Beyond it some that were not called lately are put to rest: nobody watches them, and
// their connections drain. A Conn to one of them stays what it is; its next call wakes it.
const maxServices = 1024

// restAtOnce is how many are put to rest together, so that not every new name costs a look at all.
const restAtOnce = maxServices / 16

// lookup returns the service of that name, also if it rests and somebody still has a Conn to it. mu is held.
func (c *Client) lookup(name string) *service {
	if s := c.services[name]; s != nil {
		return s
	}
	s := c.resting[name].Value()
	if s != nil {
		delete(c.resting, name)
		c.services[name] = s
	}
	return s
}

// makeRoom puts services to rest if there are too many: those that were not used since the last time, if there are any, and none that has
// a call under way. mu is held. What it returns must be given to retire when it is not.
func (c *Client) makeRoom() (rested []*service) {
	if len(c.services) < maxServices {
		return nil
	}
	for pass := 0; pass < 2 && len(rested) == 0; pass++ { // the first one takes the marks of use away
		for name, s := range c.services {
			if s.used.Swap(false) || s.busy() {
				continue
			}
			delete(c.services, name)
			c.resting[name] = weak.Make(s)
			s.resting.Store(true)
			if rested = append(rested, s); len(rested) == restAtOnce {
				break
			}
		}
	}
	if len(c.resting) > maxServices {
		maps.DeleteFunc(c.resting, func(_ string, p weak.Pointer[service]) bool { return p.Value() == nil }) // nobody has a Conn to them
	}
	return rested
}

// retire ends what services that rest have no need of.
func (c *Client) retire(rested []*service) {
	for _, s := range rested {
		if v := s.view.Load(); v != nil {
			v.Close()
		}
		if seen := s.seen.Load(); seen != nil {
			c.forget(seen, new(registry.Service))
		}
	}
}

// wake counts a service in again that is about to be called.
func (c *Client) wake(s *service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.close()
		return
	}
	s.used.Store(true)
	c.services[s.name] = s
	delete(c.resting, s.name)
}

// busy reports whether calls of the service are under way.
func (s *service) busy() bool {
	if s.picker == nil {
		return false
	}
	for _, n := range s.picker.Nodes() {
		if n.InFlight() > 0 {
			return true
		}
	}
	return false
}
