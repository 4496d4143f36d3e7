package policy

import (
	"time"

	"github.com/hull-go/hull/status"
)

// Class sorts results by what they count for. Each attempt has one, and so has each call.
type Class uint8

// The classes; the table below says what each counts for.
const (
	ClassOK           Class = iota
	ClassCaller             // the caller's own mistake, answered: InvalidArgument, NotFound, …
	ClassAborted            // the caller's transaction must start again
	ClassNoMethod           // this node does not serve the method; another version may
	ClassInternal           // Internal, Unknown, DataLoss, a panic
	ClassUnavailable        // Unavailable, answered
	ClassShed               // a server refused because it has too much to do
	ClassOverloaded         // ResourceExhausted from a peer that says no more
	ClassQuota              // the caller used up its own allowance
	ClassDraining           // the node is going away
	ClassUnsent             // dialling failed or the request did not leave whole
	ClassHandshake          // TLS or authentication failed
	ClassReset              // the connection broke after the request was sent
	ClassTimeout            // the attempt took longer than it was given
	ClassExpired            // the server says that the deadline had passed before a handler ran
	ClassDeadlineLate       // the caller's deadline passed, after the attempt had had a fair chance
	ClassDeadlineSoon       // the caller's deadline passed before that
	ClassCancelled          // the caller gave up
	ClassLoser              // another attempt of the same call won
	ClassRefused            // a policy on this side refused
	ClassDownstream         // the node passes on a failure of something it called
	ClassTooLarge           // a message is over the limit
	ClassProtocol           // the peer broke the protocol
	ClassStalled            // the attempt's time ran out while this process stood still
	numClasses
)

// RetryRule says whether a class of failure may be tried again.
type RetryRule uint8

// The rules.
const (
	RetryNever      RetryRule = iota
	RetryIdempotent           // if the call is declared idempotent
	RetryOptIn                // if it is idempotent and the retry policy asks for this class
	RetryAny                  // any call: proved not processed
	RetryAnyOnce              // any call, one more time
)

// Counts says what a class counts for in the eyes of each policy.
type Counts struct {
	// Breaker: the call's final result.
	Breaker Outcome
	// Node: consecutive failures and death of the node; Rate: its success rate only. Each attempt.
	Node, Rate Outcome
	// Down: the node is known to be down at once. LowerBound: the time taken is a lower bound of the latency.
	Down, LowerBound bool
	Retry            RetryRule
	// Cost in budget tokens of trying again after it; Earn what a first attempt of this class brings in.
	Cost, Earn int
	// Throttle: Success = accepted, Overloaded = rejected.
	Throttle Outcome
	// Limit: Success = a sample, TimedOut = a sign of overload.
	Limit Outcome
}

// counts is the outcome table of the design, one row per class. docs/architecture.md explains it.
var counts = [numClasses]Counts{
	ClassOK:           {Breaker: Success, Node: Success, Rate: Success, Earn: 1, Throttle: Success, Limit: Success},
	ClassCaller:       {Breaker: Success, Node: Success, Rate: Success, Earn: 1, Throttle: Success, Limit: Success},
	ClassAborted:      {Breaker: Success, Node: Success, Rate: Success, Throttle: Success, Limit: Success},
	ClassNoMethod:     {Retry: RetryAny, Cost: 10, Throttle: Success},
	ClassInternal:     {Breaker: Failure, Rate: Failure, Retry: RetryOptIn, Cost: 10, Throttle: Success, Limit: Success},
	ClassUnavailable:  {Breaker: Failure, Node: Failure, Rate: Failure, Retry: RetryIdempotent, Cost: 10, Throttle: Success, Limit: Success},
	ClassShed:         {Retry: RetryAnyOnce, Cost: 10, Throttle: Overloaded},
	ClassOverloaded:   {Retry: RetryIdempotent, Cost: 10, Throttle: Overloaded},
	ClassQuota:        {},
	ClassDraining:     {Retry: RetryAny, Throttle: Success},
	ClassUnsent:       {Breaker: Failure, Node: Failure, Rate: Failure, Down: true, Retry: RetryAny},
	ClassHandshake:    {Breaker: Failure, Node: Failure, Rate: Failure, Retry: RetryAnyOnce, Cost: 10},
	ClassReset:        {Breaker: Failure, Node: Failure, Rate: Failure, Retry: RetryIdempotent, Cost: 10},
	ClassTimeout:      {Breaker: Failure, Node: Failure, Rate: Failure, LowerBound: true, Retry: RetryIdempotent, Cost: 20, Limit: TimedOut},
	ClassExpired:      {Throttle: Overloaded},
	ClassDeadlineLate: {Breaker: Failure, Node: Failure, Rate: Failure, LowerBound: true, Limit: TimedOut},
	ClassDeadlineSoon: {LowerBound: true},
	ClassCancelled:    {LowerBound: true},
	ClassLoser:        {LowerBound: true, Cost: 10},
	ClassRefused:      {},
	ClassDownstream:   {Breaker: Failure, Rate: Failure, Throttle: Success, Limit: Success},
	ClassTooLarge:     {Throttle: Success},
	ClassProtocol:     {Breaker: Failure, Node: Failure, Rate: Failure, Retry: RetryIdempotent, Cost: 10},
	ClassStalled:      {Retry: RetryIdempotent, Cost: 10},
}

var classNames = [numClasses]string{"ok", "caller", "aborted", "no-method", "internal", "unavailable", "shed", "overloaded",
	"quota", "draining", "unsent", "handshake", "reset", "timeout", "expired", "deadline-late", "deadline-soon", "cancelled",
	"loser", "refused", "downstream", "too-large", "protocol", "stalled"}

// classWords say what has become of a call or an attempt of each class, so that "after 3ms" can follow.
var classWords = [numClasses]string{
	ClassOK:           "ok",
	ClassCaller:       "turned down as the caller's own mistake",
	ClassAborted:      "turned down since the caller's transaction has to begin again",
	ClassNoMethod:     "turned down since the method is not served there",
	ClassInternal:     "failed inside the service",
	ClassUnavailable:  "failed since the service is unavailable",
	ClassShed:         "turned away by a server that has too much to do",
	ClassOverloaded:   "turned away since there is too much to do",
	ClassQuota:        "turned away because the caller's quota is used up",
	ClassDraining:     "turned away by a node that is about to leave",
	ClassUnsent:       "could not be sent",
	ClassHandshake:    "failed in the TLS or authentication handshake",
	ClassReset:        "lost with its connection",
	ClassTimeout:      "timed out",
	ClassExpired:      "came to the server when its time was up",
	ClassDeadlineLate: "cut off by the caller's deadline when an answer was overdue",
	ClassDeadlineSoon: "cut off by the caller's deadline before an answer could be expected",
	ClassCancelled:    "cancelled by the caller",
	ClassLoser:        "given up since another attempt was quicker",
	ClassRefused:      "refused on this side",
	ClassDownstream:   "failed in something that the service calls",
	ClassTooLarge:     "failed since a message is too large",
	ClassProtocol:     "failed since the peer broke the protocol",
	ClassStalled:      "lost while this process stood still",
}

// Words says for people what has become of a call or an attempt, such as "timed out", so that "after 3ms" can follow.
func (c Class) Words() string {
	if c >= numClasses {
		return "invalid"
	}
	return classWords[c]
}

// Counts returns what the class counts for.
func (c Class) Counts() *Counts {
	if c >= numClasses {
		c = ClassInternal
	}
	return &counts[c]
}

// String returns the class's name in lower case.
func (c Class) String() string {
	if c >= numClasses {
		return "invalid"
	}
	return classNames[c]
}

// Classify sorts an error into its class. Deadlines that passed are ClassTimeout; Exec, which knows whose deadline it was
// and how long the attempt ran, refines that.
func Classify(err error) Class {
	if err == nil {
		return ClassOK
	}
	e := status.From(err)
	switch e.Kind {
	case status.Dial, status.Unsent:
		return ClassUnsent
	case status.Handshake:
		return ClassHandshake
	case status.Reset:
		return ClassReset
	case status.Timeout:
		return ClassTimeout
	case status.Expired:
		return ClassExpired
	case status.Shed:
		return ClassShed
	case status.Quota:
		return ClassQuota
	case status.Draining:
		return ClassDraining
	case status.Refused, status.NoNode:
		return ClassRefused
	case status.Protocol:
		return ClassProtocol
	case status.TooLarge:
		return ClassTooLarge
	case status.Stalled:
		return ClassStalled
	case status.Cancelled:
		return ClassCancelled
	case status.NoMethod:
		return ClassNoMethod
	}
	switch e.Code {
	case status.OK:
		return ClassOK
	case status.InvalidArgument, status.NotFound, status.AlreadyExists, status.PermissionDenied,
		status.FailedPrecondition, status.OutOfRange, status.Unauthenticated:
		return ClassCaller
	}
	if e.Origin == status.Downstream {
		return ClassDownstream
	}
	switch e.Code {
	case status.Canceled:
		return ClassCancelled
	case status.DeadlineExceeded:
		return ClassTimeout
	case status.ResourceExhausted:
		return ClassOverloaded
	case status.Aborted:
		return ClassAborted
	case status.Unimplemented:
		return ClassNoMethod
	case status.Unavailable:
		return ClassUnavailable
	}
	return ClassInternal
}

// Ended is what an attempt came to, as those who keep statistics of nodes and latencies are told it.
type Ended struct {
	Class Class
	// Took is the time from the attempt's start to its end.
	Took time.Duration
	// Untimed: Took says nothing about the latency, as with streams.
	Untimed bool
}
