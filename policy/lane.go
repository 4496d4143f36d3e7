package policy

import "context"

// Lane is a call of DriveIn and the room that it needs, in memory that is its caller's and that serves one call after the other. Its zero value is ready.
// It must not be copied.
type Lane struct {
	straight
	story Story
}

// Call returns the call, to be filled in before DriveIn. What it says is the last one's until then.
func (l *Lane) Call() *Call { return &l.c }

// DriveIn is Drive for those who have room for calls, and have just read the clock: a call that needs no more than one attempt at once begins at now, another
// when the clock is read again. ctx's deadline becomes that of l.Call if it is earlier. l is not to be used again if a panic passes through.
func (p *Pipeline) DriveIn(ctx context.Context, now Time, l *Lane, r Runner) (winner int, err error) {
	if d, ok := ctx.Deadline(); ok {
		l.c.Deadline = Earliest(l.c.Deadline, At(d))
	}
	if _, own := r.(Observer); own || !p.lane || ctx.Err() != nil {
		return p.driveOther(ctx, &l.c, r)
	}
	l.p, l.shown, l.node, l.straightState = p, &l.c, nil, straightState{}
	defer func() {
		if !l.left || l.ended != 0 {
			l.crashed(r)
		}
	}()
	if d := l.enter(now); d != nil {
		return l.leaves(ctx, d, r)
	}
	err = r.Run(ctx, Attempt{Node: l.node, Start: now, Deadline: l.deadline})
	now = Now()
	if err != nil {
		return l.leaves(ctx, l.stumbled(ctx, now, err), r)
	}
	l.left, l.ended = true, now
	l.tell()
	if o := p.selective; o != nil && o.Wants(now, &l.c, ClassOK, now.Sub(l.began)) {
		l.observed(now, ClassOK, nil)
	}
	return 0, nil
}

// stumbled makes the call an Exec whose first attempt has failed.
func (l *Lane) stumbled(ctx context.Context, now Time, err error) *drive {
	d := l.started()
	d.x.forsaken = ctx.Err() != nil
	d.now = now
	d.steps = d.x.Result(now, Source{}, 0, err)
	return d
}

// leaves drives the Exec that the call has become to its end.
func (l *Lane) leaves(ctx context.Context, d *drive, r Runner) (int, error) {
	l.left, l.d = true, nil
	return d.goOn(ctx, r)
}

// observed tells the pipeline's Observer of the call, whose attempt has succeeded.
func (l *Lane) observed(now Time, cl Class, err error) {
	s, took := &l.story, now.Sub(l.began)
	s.Class, s.Err, s.Took = cl, err, took
	s.Attempts = append(s.Attempts[:0], AttemptStory{Node: l.node, Start: l.began, Took: took, Ended: true, Class: ClassOK})
	l.p.opt.Observer.Call(now, &l.c, s)
	clear(s.Attempts)
}

// crashed ends a call in which something has panicked. If that is a policy that was told of its success, it is what becomes of the call.
func (l *Lane) crashed(r Runner) {
	if now := l.ended; l.left {
		defer func() {
			if o := l.p.selective; o != nil && o.Wants(now, &l.c, ClassInternal, now.Sub(l.began)) {
				l.observed(now, ClassInternal, errPanicked)
			}
		}()
	}
	l.mend(r)
}
