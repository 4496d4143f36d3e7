package policy

import (
	"context"
	"sync/atomic"
)

// Opened is a stream that has begun. It holds the permits of its call and its attempt until End.
type Opened struct {
	d *drive
	r Runner
	k int

	over atomic.Bool
}

// Open drives a call whose attempts begin something lasting, such as a stream: r.Run returns when it has begun. A failure to
// begin is retried like any other; once begun it is not repeated. The caller must call End exactly once.
func (p *Pipeline) Open(ctx context.Context, c Call, r Runner) (*Opened, error) {
	if d, ok := ctx.Deadline(); ok {
		c.Deadline = Earliest(c.Deadline, At(d))
	}
	d := p.get()
	k, err := d.plain(ctx, c, r, true)
	if err != nil || k < 0 {
		p.put(d)
		return nil, err
	}
	d.x.Commit()
	return &Opened{d: d, r: r, k: k}, nil
}

// Attempt describes the attempt that began.
func (o *Opened) Attempt() Attempt { return o.d.x.Attempt(o.k) }

// End reports how it ended, nil for success. Only the first call counts.
func (o *Opened) End(err error) {
	if o.over.Swap(true) {
		return
	}
	d, now := o.d, Now()
	s := d.x.Result(now, Source{}, o.k, err)
	d.x.Release(now, Source{}, d.p, s.Release)
	d.p.observe(now, &d.x, &d.story, o.r)
	d.p.put(d)
}
