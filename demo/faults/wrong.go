package faults

import "context"

// Spoiler is a reply that can be made wrong. Replies that cannot are left as they are.
type Spoiler interface {
	// Spoil changes what the reply says, so that its checksum does not fit any more.
	Spoil()
}

// wrong spoils a share of the replies.
type wrong struct{ percent int }

func newWrong(s Setting) wrong { return wrong{s.percent(100)} }

// Pass does the work and lies about it.
func (f wrong) Pass(ctx context.Context, next func(context.Context) (any, error)) (any, error) {
	rep, err := next(ctx)
	if s, ok := rep.(Spoiler); ok && err == nil && hit(f.percent) {
		s.Spoil()
	}
	return rep, err
}
