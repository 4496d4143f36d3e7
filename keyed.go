package hull

import (
	"context"
	"slices"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// sameAgain follows an attempt at a call with a key whose connection broke, where nodes do not share their keys: nobody else may be tried, but the very
// process that may have run it knows what became of the key. That one is asked again under the rules for any repetition: as often as the document says, if
// the budget pays and nobody above repeats. In the eyes of the policies all of it is one attempt. The error that comes back is the first one, unless the
// process has answered.
func (p *prepared) sameAgain(ctx context.Context, s *service, a policy.Attempt, asked *registry.Node, req *transport.Request, rep *transport.Reply, first *status.Error) *status.Error {
	n := a.Node.(*balance.Node)
	if !p.mayAskAgain(asked, req, first) {
		return first
	}
	most := p.m.Retry.Attempts
	if own := int(p.call.Attempts); own > 0 {
		most = min(most, own)
	}
	again := *req
	again.Metadata = append(slices.Clip(req.Metadata), transport.Field{Key: headerNode, Value: process(asked)})
	last := first
	for k := 1; k < most; k++ {
		now := policy.Now()
		if !s.budget.current().Spend(now, p.call.Criticality, policy.Classify(last).Counts().Cost) {
			return first
		}
		pause := time.Duration(policy.Source{}.Uint64() % uint64(firstPause<<min(k-1, 3)))
		if a.Deadline != 0 && now.Add(pause) >= a.Deadline || wait(ctx, pause) != nil {
			return first
		}
		again.PathAttempt = req.PathAttempt + k
		rep.Reset()
		p.repeated++
		at := s.node(n, n.Info())
		var conn transport.Conn
		if conn, last = at.Get(ctx, a.Deadline); last == nil {
			last = conn.Call(ctx, &again, rep)
		}
		if last == nil {
			at.Answered()
			return nil
		}
		switch cl := policy.Classify(last); {
		case cl == policy.ClassReset, cl == policy.ClassUnsent:
		case last.Fate == status.Processed:
			return last
		default:
			return first
		}
	}
	return first
}

// firstPause is the longest pause before a call with a key is made again. It doubles with each repetition.
const firstPause = 25 * time.Millisecond

// mayAskAgain reports whether a node may be asked once more what has become of a key.
func (p *prepared) mayAskAgain(n *registry.Node, req *transport.Request, first *status.Error) bool {
	return p.opt.once != "" && !p.call.Idempotent && n.Remembers && !n.Started.IsZero() && req.Metadata.Get(headerNode) == "" &&
		policy.Classify(first) == policy.ClassReset && first.Pushback >= 0 && req.PathAttempt <= 1 && p.m.Retry.Mode == spec.On
}
