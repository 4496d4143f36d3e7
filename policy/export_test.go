package policy

import "reflect"

// Fresh reports whether nothing is left in x but what Begin sets in any case.
func (x *Exec) Fresh() bool {
	y := *x
	y.p, y.call, y.waiter, y.detached, y.began, y.winner = nil, Call{}, nil, false, 0, 0
	y.held = [maxGates]Permit{} // valid only where heldSet says so
	y.seat = seat{kind: y.seat.kind}
	return reflect.DeepEqual(y, Exec{}) //nolint:govet // errors in it have to be nil
}
