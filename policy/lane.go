package policy

import "context"

// lane is a straight call of Drive.
type lane struct {
	straight
	story Story
}

// driveStraight is Drive for a call that probably goes straight.
func (p *Pipeline) driveStraight(ctx context.Context, now Time, c *Call, until Time, r Runner) (int, error) {
	l, ok := p.lanes.Get().(*lane)
	if !ok {
		l = new(lane)
		l.p, l.shown = p, &l.c
	}
	l.c = *c
	l.c.Deadline = until
	defer l.over(r)
	if d := l.enter(now); d != nil {
		return l.leaves(ctx, d, r)
	}
	err := r.Run(ctx, Attempt{Node: l.node, Start: l.began, Deadline: l.deadline})
	now = Now()
	if err != nil {
		return l.leaves(ctx, l.stumbled(ctx, now, err), r)
	}
	l.left = true
	l.ended = now
	l.tell()
	l.observed(now, ClassOK, nil)
	return 0, nil
}

// stumbled makes the call an Exec whose first attempt has failed.
func (l *lane) stumbled(ctx context.Context, now Time, err error) *drive {
	d := l.started()
	d.x.forsaken = ctx.Err() != nil
	d.now = now
	d.steps = d.x.Result(now, Source{}, 0, err)
	return d
}

// leaves drives the Exec that the call has become to its end.
func (l *lane) leaves(ctx context.Context, d *drive, r Runner) (int, error) {
	l.left = true
	return d.goOn(ctx, r)
}

// observed tells the pipeline's Observer of the call, whose attempt has succeeded, if it wants to hear of it.
func (l *lane) observed(now Time, cl Class, err error) {
	p, took := l.p, now.Sub(l.began)
	if p.opt.Observer == nil || p.selective != nil && !p.selective.Wants(now, &l.c, cl, took) {
		return
	}
	s := &l.story
	s.Class, s.Err, s.Took = cl, err, took
	s.Attempts = append(s.Attempts[:0], AttemptStory{Node: l.node, Start: l.began, Took: took, Ended: true, Class: ClassOK})
	p.opt.Observer.Call(now, &l.c, s)
	clear(s.Attempts)
}

// over is the end of driveStraight. l is used again, unless a panic came in between.
func (l *lane) over(r Runner) {
	if !l.left || l.ended != 0 {
		if l.left { // a policy that was told of the success has panicked, which is what becomes of the call
			defer l.observed(l.ended, ClassInternal, errPanicked)
		}
		l.mend(r)
		return
	}
	l.node, l.d = nil, nil
	l.gate, l.told, l.probe, l.running, l.left = 0, 0, false, false, false
	l.hasThrottle, l.hasPick, l.hasPlace = false, false, false
	l.p.lanes.Put(l)
}
