package hull

import "time"

// WithBusyPoll has native connections ask for up to d, at most 50 µs, whether something has arrived before their reader sleeps. Where calls follow one
// another, on both sides, and each side has a processor to spare, an answer takes a fraction of the time; the price is a processor that does nothing
// else meanwhile. It stops by itself while several calls are under way and where it is in vain. It is off without this, and does nothing under TLS and
// elsewhere than on Linux.
func WithBusyPoll(d time.Duration) Option {
	return bothOption{func(o *clientOptions) error { o.mux.BusyPoll = d; return nil },
		func(o *serverOptions) error { o.mux.BusyPoll = d; return nil }}
}
