package registry

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/hull-go/hull/status"
)

// View is one user's window on a service. It is safe for concurrent use. Close it when done.
type View struct {
	w      *watch
	closed atomic.Bool
}

// Snapshot returns what is believed now; never nil, and empty with Revision 0 before the first answer. It costs one
// atomic load and allocates nothing.
func (v *View) Snapshot() *Service { return v.w.snap.Load() }

// Changed returns a channel that is closed when a newer snapshot than the present one is there. Get the channel
// first, then the snapshot, then wait: nothing is missed.
func (v *View) Changed() <-chan struct{} { return v.w.snap.Load().next }

// Report is Registry.Report for this service, without looking it up.
func (v *View) Report(nodeID string, healthy bool) { v.w.report(nodeID, healthy) }

// Probe has p look at absent nodes of the service that have not been heard of for 10 s, until the view is closed. It is
// called on goroutines of its own, at most 8 at a time; of several views' probes any one is. nil = this view has none.
func (v *View) Probe(p Probe) {
	if v.w.r != nil && !v.closed.Load() {
		v.w.setProbe(v, p)
	}
}

// Wait returns the first snapshot that has nodes. If ctx ends before, the error says why there is none: the service is
// not known (*NotFoundError, with the names that come near), or the engine does not answer.
func (v *View) Wait(ctx context.Context) (*Service, error) { return v.wait(ctx, true) }

// Close ends the view; the watch goes on while others use it. The last snapshot stays readable. Always nil.
func (v *View) Close() error {
	if v.closed.CompareAndSwap(false, true) && v.w.r != nil {
		v.w.setProbe(v, nil)
		v.w.r.release(v.w)
	}
	return nil
}

// wait waits for nodes; unless patient, an answer without nodes ends it too.
func (v *View) wait(ctx context.Context, patient bool) (*Service, error) {
	var near *NotFoundError
	for {
		changed := v.Changed()
		s := v.Snapshot()
		if len(s.Nodes) > 0 {
			return s, nil
		}
		if v.w.r == nil {
			return nil, s.err
		}
		answered := s.Revision > 0 && !s.Stale
		if answered && near == nil {
			near = v.w.r.notFound(ctx, v.w.name)
		}
		switch {
		case patient, s.Revision == 0:
		case answered:
			return nil, noNodes(near)
		default:
			return nil, unavailable(v.w.name, s.err)
		}
		select {
		case <-changed:
		case <-v.w.ctx.Done():
			return nil, unavailable(v.w.name, ErrClosed)
		case <-ctx.Done():
			cause := ctx.Err()
			switch s = v.Snapshot(); {
			case s.err != nil:
				cause = fmt.Errorf("%w (%w)", s.err, cause)
			case near != nil:
				return nil, noNodes(fmt.Errorf("%w (%w)", near, cause))
			default:
				cause = fmt.Errorf("the registry has not answered yet (%w)", cause)
			}
			return nil, unavailable(v.w.name, cause)
		}
	}
}

func noNodes(cause error) error {
	return &status.Error{Code: status.Unavailable, Kind: status.NoNode, Fate: status.NotSent, Cause: cause}
}

// NotFoundError says that a service has no nodes.
type NotFoundError struct {
	Service string
	// Nearest are names of services that exist and are written much alike, the nearest first.
	Nearest []string
	// Known is how many services have nodes; -1 = the engine could not say.
	Known int
}

// Error says what is missing and what was perhaps meant.
func (e *NotFoundError) Error() string {
	switch {
	case len(e.Nearest) > 0:
		return fmt.Sprintf("no nodes of service %q; did you mean %s?", e.Service, strings.Join(e.Nearest, " or "))
	case e.Known == 0:
		return fmt.Sprintf("no nodes of service %q: nothing is registered at all; is the service running, with the same registry?", e.Service)
	}
	return fmt.Sprintf("no nodes of service %q: is it running, and registered under this name?", e.Service)
}
