package httptransport

import (
	"context"
	"net/http/httptrace"
)

// Failed is for fuzzing.
var Failed = failed

// MaybeSent says what is believed of a request whose context has ended and that came as far as the functions of net/http's trace say.
func MaybeSent(ctx context.Context, came func(*httptrace.ClientTrace)) bool {
	at := new(attempt)
	came(at.trace())
	return at.maybeSent(ctx)
}
