package idempotency

import (
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/status"
)

// Reasons that errors of this package carry in a google.rpc.ErrorInfo of the domain "hull", so that callers in any language can tell
// them apart.
const (
	reasonInDoubt    = "IDEMPOTENCY_IN_DOUBT"
	reasonMismatch   = "IDEMPOTENCY_KEY_REUSED"
	reasonNotKept    = "IDEMPOTENCY_ANSWER_NOT_KEPT"
	reasonBadKey     = "IDEMPOTENCY_KEY_INVALID"
	reasonFull       = "IDEMPOTENCY_WINDOW_FULL"
	reasonStoreDown  = "IDEMPOTENCY_STORE_UNREACHABLE"
	errorInfoTypeURL = "type.googleapis.com/google.rpc.ErrorInfo"
)

// InDoubt reports whether err says that a call with the key began and nobody knows whether it took effect: its process died, or its
// handler panicked or was given up. Repeating the key does not help; look at the effect itself, and use a new key if it is missing.
func InDoubt(err error) bool { return reasonOf(err) == reasonInDoubt }

// Reused reports whether err says that the key had been used for another request before.
func Reused(err error) bool { return reasonOf(err) == reasonMismatch }

func reasonOf(err error) string {
	e, ok := errors.AsType[*status.Error](err)
	if !ok {
		return ""
	}
	for _, d := range e.Details {
		if d.TypeURL != errorInfoTypeURL {
			continue
		}
		var info errdetails.ErrorInfo
		if proto.Unmarshal(d.Value, &info) == nil && info.GetDomain() == "hull" {
			return info.GetReason()
		}
	}
	return ""
}

// refusal is an error of this package's own.
func refusal(code status.Code, reason, message string) *status.Error {
	e := &status.Error{Code: code, Message: "idempotency: " + message, Fate: status.Processed}
	if b, err := proto.Marshal(&errdetails.ErrorInfo{Reason: reason, Domain: "hull"}); err == nil {
		e.Details = []status.Detail{{TypeURL: errorInfoTypeURL, Value: b}}
	}
	return e
}

// notStarted is a refusal that proves that nothing was done, and may be over soon.
func notStarted(code status.Code, reason, message string) *status.Error {
	e := refusal(code, reason, message)
	e.Fate, e.Kind, e.Pushback = status.NotSent, status.Shed, time.Second
	return e
}

func inDoubt(why string) *status.Error {
	return refusal(status.FailedPrecondition, reasonInDoubt, "a call with this key began and nobody knows whether it took effect ("+why+
		"): look at the effect itself, and use a new key if it is missing")
}
