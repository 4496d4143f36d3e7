package status

import "strconv"

// Code says how a call ended. The numbers are gRPC's, so that a code survives every protocol unchanged.
type Code uint32

// The codes, with gRPC's numbers and meaning.
const (
	OK                 Code = 0
	Canceled           Code = 1
	Unknown            Code = 2
	InvalidArgument    Code = 3
	DeadlineExceeded   Code = 4
	NotFound           Code = 5
	AlreadyExists      Code = 6
	PermissionDenied   Code = 7
	ResourceExhausted  Code = 8
	FailedPrecondition Code = 9
	Aborted            Code = 10
	OutOfRange         Code = 11
	Unimplemented      Code = 12
	Internal           Code = 13
	Unavailable        Code = 14
	DataLoss           Code = 15
	Unauthenticated    Code = 16
)

const maxCode = Unauthenticated

// Valid reports whether c is one of the codes above.
func (c Code) Valid() bool { return c <= maxCode }

// String returns the code's name as gRPC spells it in Go, or "Code(n)".
func (c Code) String() string {
	switch c {
	case OK:
		return "OK"
	case Canceled:
		return "Canceled"
	case Unknown:
		return "Unknown"
	case InvalidArgument:
		return "InvalidArgument"
	case DeadlineExceeded:
		return "DeadlineExceeded"
	case NotFound:
		return "NotFound"
	case AlreadyExists:
		return "AlreadyExists"
	case PermissionDenied:
		return "PermissionDenied"
	case ResourceExhausted:
		return "ResourceExhausted"
	case FailedPrecondition:
		return "FailedPrecondition"
	case Aborted:
		return "Aborted"
	case OutOfRange:
		return "OutOfRange"
	case Unimplemented:
		return "Unimplemented"
	case Internal:
		return "Internal"
	case Unavailable:
		return "Unavailable"
	case DataLoss:
		return "DataLoss"
	case Unauthenticated:
		return "Unauthenticated"
	}
	return "Code(" + strconv.FormatUint(uint64(c), 10) + ")"
}

// Fate says what is proved about a call that failed: whether the other side may have acted on it.
type Fate uint8

// The fates. The zero value is the careful one: nothing is proved.
const (
	// Maybe: the request may or may not have been processed.
	Maybe Fate = iota
	// NotSent: proved not processed. Repeating the call is safe whatever it does.
	NotSent
	// Processed: the other side answered, so it has seen the request.
	Processed
)

// String returns "maybe", "not-sent" or "processed".
func (f Fate) String() string {
	switch f {
	case Maybe:
		return "maybe"
	case NotSent:
		return "not-sent"
	case Processed:
		return "processed"
	}
	return "Fate(" + strconv.Itoa(int(f)) + ")"
}

// Kind says by which way a call came to its code, where the code alone does not tell. What a failure counts for
// (see policy.Classify) follows from code, kind, fate and origin.
type Kind uint8

// The kinds. The values travel on the wire: append only.
const (
	// Answered: the handler itself gave this code. The zero value.
	Answered Kind = iota
	// Dial: no connection: refused, timed out, name not found.
	Dial
	// Handshake: connected, but TLS or authentication failed.
	Handshake
	// Unsent: a connection was there, but the request did not leave whole.
	Unsent
	// Reset: the connection ended after the request was sent and before an answer.
	Reset
	// Timeout: the attempt took longer than it was given.
	Timeout
	// Expired: the server says that the deadline had passed before a handler started.
	Expired
	// Shed: a server refused to start the call because it has too much to do.
	Shed
	// Quota: the caller used up its own allowance.
	Quota
	// Draining: the node is going away and did not start the call.
	Draining
	// Refused: a policy on the caller's side refused the call; nothing was sent.
	Refused
	// Protocol: the peer broke the protocol, or a checksum did not fit.
	Protocol
	// TooLarge: a request or an answer is over the size limit.
	TooLarge
	// Panicked: the handler panicked.
	Panicked
	// NoMethod: the node does not serve this method.
	NoMethod
	// Cancelled: the caller gave up.
	Cancelled
	// NoNode: discovery knows no node that may take the call.
	NoNode
	// Stalled: the attempt's time ran out while the caller's own process stood still.
	Stalled
)

var kindNames = [...]string{"answered", "dial", "handshake", "unsent", "reset", "timeout", "expired", "shed", "quota",
	"draining", "refused", "protocol", "too-large", "panicked", "no-method", "cancelled", "no-node", "stalled"}

// Valid reports whether k is one of the kinds above.
func (k Kind) Valid() bool { return int(k) < len(kindNames) }

// String returns the kind's name in lower case, as logs and the admin pages print it.
func (k Kind) String() string {
	if k.Valid() {
		return kindNames[k]
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Origin says whose failure an error is: the node that answered, or something that node called.
type Origin uint8

// The origins. Peers that say nothing count as Self.
const (
	// Self: the answering node failed on its own account.
	Self Origin = iota
	// Downstream: a call that the handler made with its own context failed for good, and the handler failed with it.
	// The layer next to that failure has already retried; nobody above does.
	Downstream
)

// String returns "self" or "downstream".
func (o Origin) String() string {
	if o == Downstream {
		return "downstream"
	}
	return "self"
}
