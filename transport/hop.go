package transport

import (
	"slices"
	"strconv"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
)

// The headers in which the facts of Hull's discipline travel over protocols other than the native one: in the request what the
// layers below inherit, with the answer what retry decides from. What is usual is not said: a first attempt, the default
// criticality, a failure of the node's own. Peers that know nothing of them say nothing.
const (
	// HeaderAttempt is the highest attempt number on the path, Request.PathAttempt, in the request.
	HeaderAttempt = "x-envoy-attempt-count"
	// HeaderCriticality is the name of the request's policy.Criticality.
	HeaderCriticality = "hull-criticality"
	// HeaderOrigin is status.Error's Origin by name, in the answer.
	HeaderOrigin = "hull-origin"
	// HeaderKind is status.Error's Kind by name, in the answer.
	HeaderKind = "hull-kind"
	// HeaderFate is status.Error's Fate by name, in the answer, where it is not status.Processed.
	HeaderFate = "hull-fate"
	// HeaderPushback is status.Error's Pushback in milliseconds, in the answer; negative = do not retry.
	HeaderPushback = "grpc-retry-pushback-ms"
)

// without returns md without the fields of some keys; a copy if there are any.
func without(md Metadata, keys ...string) Metadata {
	ours := func(f Field) bool { return slices.Contains(keys, f.Key) }
	if !slices.ContainsFunc(md, ours) {
		return md
	}
	return slices.DeleteFunc(slices.Clone(md), ours)
}

// AppendHop appends what a request says of its place in the call tree. Metadata that says it already, because a handler passes on what
// it was sent, does not count.
func AppendHop(md Metadata, pathAttempt int, c policy.Criticality) Metadata {
	md = without(md, HeaderAttempt, HeaderCriticality)
	if pathAttempt > 1 {
		md = append(md, Field{HeaderAttempt, strconv.Itoa(pathAttempt)})
	}
	if c != policy.Critical {
		md = append(md, Field{HeaderCriticality, c.String()})
	}
	return md
}

// ReadHop reads what AppendHop wrote; get returns a header's first value. What makes no sense counts as not said: a request is
// not refused for it.
func ReadHop(get func(key string) string) (pathAttempt int, c policy.Criticality) {
	pathAttempt = 1
	if s := get(HeaderAttempt); s != "" {
		if n, err := strconv.ParseUint(s, 10, 16); err == nil {
			pathAttempt = max(1, int(n))
		}
	}
	if s := get(HeaderCriticality); s != "" {
		for k := range policy.Criticality(maxCriticality) {
			if k.String() == s {
				c = k
			}
		}
	}
	return pathAttempt, c
}

// maxCriticality is one more than the last of policy's criticalities.
const maxCriticality = 4

// AppendFacts appends what an answer says of a failure, beside its code, message and details. Metadata that says it already, because a
// handler passes on what it was answered, does not count: it would claim that a call which ran was never begun.
func AppendFacts(md Metadata, e *status.Error) Metadata {
	if e == nil {
		return md
	}
	md = without(md, HeaderOrigin, HeaderKind, HeaderFate)
	if e.Pushback != 0 { // without one, what a handler has said by hand, as those of gRPC do, stays
		md = without(md, HeaderPushback)
	}
	if e.Origin != status.Self {
		md = append(md, Field{HeaderOrigin, e.Origin.String()})
	}
	if e.Kind != status.Answered {
		md = append(md, Field{HeaderKind, e.Kind.String()})
	}
	if e.Fate == status.NotSent {
		md = append(md, Field{HeaderFate, e.Fate.String()})
	}
	switch {
	case e.Pushback < 0:
		md = append(md, Field{HeaderPushback, "-1"})
	case e.Pushback > 0:
		md = append(md, Field{HeaderPushback, strconv.FormatInt(roundUp(e.Pushback, time.Millisecond), 10)})
	}
	return md
}

// roundUp says how many units d takes, which is positive.
func roundUp(d, unit time.Duration) int64 { return int64((d-1)/unit) + 1 }

// ReadFacts sets in e what AppendFacts wrote; get returns a header's first value. An answer has been processed unless it says
// otherwise; a pushback that cannot be read means do not retry.
func ReadFacts(get func(key string) string, e *status.Error) {
	e.Fate = status.Processed
	if get(HeaderFate) == status.NotSent.String() {
		e.Fate = status.NotSent
	}
	if get(HeaderOrigin) == status.Downstream.String() {
		e.Origin = status.Downstream
	}
	if s := get(HeaderKind); s != "" {
		for k := status.Answered; k.Valid(); k++ {
			if k.String() == s && !oneSided(k) {
				e.Kind = k
			}
		}
	}
	if s := get(HeaderPushback); s != "" {
		ms, err := strconv.ParseInt(s, 10, 64)
		if err != nil || ms < 0 {
			e.Pushback = -1
		} else {
			e.Pushback = time.Duration(min(ms, int64(24*time.Hour/time.Millisecond))) * time.Millisecond
		}
	}
}

// oneSided reports whether only the caller's side can know of a failure of that kind, so that an answer cannot be one.
func oneSided(k status.Kind) bool {
	switch k {
	case status.Dial, status.Handshake, status.Unsent, status.Reset, status.Refused, status.NoNode:
		return true
	}
	return false
}
