package policy

import "reflect"

// Fresh reports whether nothing is left in x but what Begin sets in any case.
func (x *Exec) Fresh() bool {
	y := *x
	y.p, y.call, y.waiter, y.detached, y.began, y.winner = nil, Call{}, nil, false, 0, 0
	y.held = [maxGates]Permit{} // valid only where heldSet says so
	y.seat = seat{kind: y.seat.kind}
	if len(y.notes) == 0 {
		y.notes = nil // its room is kept
	}
	return reflect.DeepEqual(y, Exec{}) //nolint:govet // errors in it have to be nil
}

// Crooked makes p drive every call of Do as an Exec from the beginning.
func (p *Pipeline) Crooked() *Pipeline {
	p.plain, p.lane = false, false
	return p
}

// Lane reports whether calls of Drive can go straight.
func (p *Pipeline) Lane() bool { return p.lane }

// Plain reports whether calls of Do can go straight.
func (p *Pipeline) Plain() bool { return p.plain }
