package main

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hull-go/hull/bench/echopb"
)

// callTimeout is the deadline that every call of every rival has, so that all
// of them do the same work. A rival that cannot set one says so in its Info.
const callTimeout = 5 * time.Second

// maxConns is how many connections a rival that needs one for each call in
// flight may keep open and idle: enough for the highest level.
const maxConns = 4096

// A Rival is one way to make remote calls, server and client.
type Rival interface {
	// Info says what it is. It does no work.
	Info() Info
	// Serve answers calls on ln until ctx ends, closes ln and returns nil.
	Serve(ctx context.Context, ln net.Listener) error
	// Dial prepares calls to the server at addr. It may connect later.
	Dial(ctx context.Context, addr string) (Caller, error)
}

// A Caller makes calls. All workers of a run share one, concurrently, as the
// parts of a program would.
type Caller interface {
	// Call sends m and returns the answer, a message of its own. It sets the
	// deadline of callTimeout itself. m is only read, and not after Call ends.
	Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error)
	// Close ends the connections. No Call is running or follows.
	Close() error
}

// Info describes a rival in reports.
type Info struct {
	// Name picks it on the command line: lower case, one word.
	Name string `json:"name"`
	// Module is its Go module, "std" for the standard library, from which the
	// report takes its version.
	Module string `json:"module"`
	// Setup says in one line how it is configured, where that differs from the
	// defaults, and how its calls get their deadline.
	Setup string `json:"setup"`
	// Streams says that its Caller is a Streamer.
	Streams bool `json:"streams,omitempty"`
	// StreamsOnly leaves it out where calls are measured: they are as another's.
	StreamsOnly bool `json:"streams_only,omitempty"`
}

// rivals lists all of them in the order in which a round runs them. The first
// is what ratios compare with unless asked otherwise.
func rivals() []Rival {
	return []Rival{
		grpcRival{},
		grpcRival{noDeadline: true},
		netrpcRival{},
		fasthttpRival{},
		fasthttpPipeRival{},
		ttrpcRival{},
		drpcRival{},
		twirpRival{},
		connectRival{},
		httpJSONRival{},
		rawTCPRival{},
		hullRival{},
		hullOffRival{},
		hullPollRival{},
		grpcVTRival{},
		hullVTRival{},
		grpcRawRival{},
		hullRawRival{},
		hullGRPCRival{},
		hullJSONRival{},
	}
}

// pick returns the rivals that names lists, separated by commas, in the order
// of all; an empty list means all of them.
func pick(all []Rival, names string) ([]Rival, error) {
	if names == "" {
		return all, nil
	}
	want := make(map[string]bool)
	for n := range strings.SplitSeq(names, ",") {
		want[strings.TrimSpace(n)] = true
	}
	var picked []Rival
	var known []string
	for _, r := range all {
		name := r.Info().Name
		known = append(known, name)
		if want[name] {
			picked = append(picked, r)
			delete(want, name)
		}
	}
	for n := range want {
		return nil, fmt.Errorf("no rival is called %q; there are %s", n, strings.Join(known, ", "))
	}
	return picked, nil
}

// version returns the version of a module that this program is built with, or
// what it was replaced by, or "" if it is not part of the program.
func version(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	if module == "std" {
		return info.GoVersion
	}
	for _, m := range info.Deps {
		switch {
		case m.Path != module:
		case m.Replace != nil:
			return m.Replace.Path
		default:
			return m.Version
		}
	}
	return ""
}

// echo is the service itself for the rivals with generated code: it answers
// with the message that it got, uncopied.
type echo struct{}

// Echo returns m.
func (echo) Echo(_ context.Context, m *echopb.Msg) (*echopb.Msg, error) { return m, nil }
