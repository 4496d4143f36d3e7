package ui

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/stats"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport/muxtransport"
)

// side is one of the two ways to call the board, with all that is known about it.
type side struct {
	client *hull.Client
	conn   *hull.Conn
	rec    *stats.Recorder
	rules  *rules
	// names translates node ids of this client's registry into those of the fleet.
	names  map[string]string
	outbox *outbox
	saved  atomic.Int64 // saves that the board has acknowledged, late ones included

	mu   sync.Mutex
	on   Protection
	last map[string]remembered // by room
}

// remembered is the last good answer about a room.
type remembered struct {
	messages []board.Message
	at       time.Time
}

// newSide returns a side that finds the board in reg.
func newSide(reg *registry.Registry, on Protection, names map[string]string, log *slog.Logger) (*side, error) {
	mux, err := muxtransport.NewDialer(muxtransport.Options{})
	if err != nil {
		return nil, err
	}
	s := &side{rec: stats.NewRecorder(), rules: newRules(), names: names, on: on, last: map[string]remembered{}}
	s.client, err = hull.NewClient(hull.WithRegistry(reg), hull.WithSpec(on.Spec()), hull.WithDialer(checkingDialer{mux}), hull.WithLogger(log))
	if err != nil {
		return nil, err
	}
	s.conn = s.client.To(board.Service)
	s.outbox = newOutbox(func(ctx context.Context, m *board.Message) error {
		_, err := hull.Call[board.SaveReply](ctx, s.conn, board.MethodSave, m)
		if err == nil {
			s.saved.Add(1)
		}
		return err
	})
	return s, nil
}

// protection returns what is on.
func (s *side) protection() Protection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

// protect changes what is on.
func (s *side) protect(change func(Protection) (Protection, error)) (Protection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	on, err := change(s.on)
	if err != nil {
		return s.on, err
	}
	if err := s.client.Apply(on.Spec()); err != nil {
		return s.on, err
	}
	s.on = on
	return on, nil
}

// listing is what a reader gets.
type listing struct {
	Messages []board.Message `json:"messages"`
	// Node is who answered; empty for a fallback.
	Node string `json:"node,omitempty"`
	// Fallback: the board did not answer; Messages are the last known ones, from Age seconds ago.
	Fallback bool    `json:"fallback"`
	Age      float64 `json:"age,omitempty"`
	// Outbox are messages that wait to be saved.
	Outbox []board.Message `json:"outbox"`
	Error  string          `json:"error,omitempty"`
}

// list reads a room.
func (s *side) list(ctx context.Context, room string, limit int, due time.Time) (*listing, error) {
	call := s.begin(ctx, due, false)
	rep, err := hull.Call[board.ListReply](ctx, s.conn, board.MethodList, &board.ListRequest{Room: room, Limit: limit}, hull.Info(&call.info))
	outbox, _, _ := s.outbox.state(room)
	if outbox == nil {
		outbox = []board.Message{}
	}
	if err == nil {
		s.mu.Lock()
		s.last[room] = remembered{rep.Messages, time.Now()}
		s.mu.Unlock()
		call.end(stats.OK, nil, rep.Node)
		return &listing{Messages: rep.Messages, Node: rep.Node, Outbox: outbox}, nil
	}
	if !mistake(err) && ctx.Err() == nil {
		s.mu.Lock()
		old, known := s.last[room]
		on := s.on.Fallback
		s.mu.Unlock()
		if on {
			call.end(stats.Fallback, err, "")
			l := &listing{Messages: []board.Message{}, Fallback: true, Outbox: outbox, Error: err.Error()}
			if known {
				l.Messages, l.Age = old.messages[:min(limit, len(old.messages))], time.Since(old.at).Seconds()
			}
			return l, nil
		}
	}
	call.end(stats.Failed, err, "")
	return nil, err
}

// receipt is what a writer gets.
type receipt struct {
	Message board.Message `json:"message"`
	Node    string        `json:"node,omitempty"`
	// Pending: the board did not answer; the message waits in the outbox and is saved as soon as it does.
	Pending bool `json:"pending"`
}

// save stores a message.
func (s *side) save(ctx context.Context, m *board.Message, due time.Time) (*receipt, error) {
	call := s.begin(ctx, due, false)
	rep, err := hull.Call[board.SaveReply](ctx, s.conn, board.MethodSave, m, hull.Info(&call.info))
	if err == nil {
		s.saved.Add(1)
		call.end(stats.OK, nil, rep.Node)
		return &receipt{Message: rep.Message, Node: rep.Node}, nil
	}
	if !mistake(err) && ctx.Err() == nil && s.protection().Fallback && s.outbox.add(*m) {
		call.end(stats.Fallback, err, "")
		return &receipt{Message: *m, Pending: true}, nil
	}
	call.end(stats.Failed, err, "")
	return nil, err
}

// post stores a message under an id of the board's making, once at most.
func (s *side) post(ctx context.Context, r *board.PostRequest, due time.Time) {
	call := s.begin(ctx, due, true)
	rep, err := hull.Call[board.SaveReply](ctx, s.conn, board.MethodPost, r, hull.Info(&call.info))
	switch {
	case err == nil:
		call.end(stats.OK, nil, rep.Node)
	case status.FateOf(err) == status.Maybe:
		call.end(stats.Maybe, err, "")
	default:
		call.end(stats.Failed, err, "")
	}
}

// running is a call under way.
type running struct {
	s      *side
	due    time.Time
	unsafe bool
	id     uint64
	info   hull.CallInfo
}

func (s *side) begin(ctx context.Context, due time.Time, unsafe bool) *running {
	s.rec.Begin()
	return &running{s: s, due: due, unsafe: unsafe, id: s.rules.offer(ctx, unsafe)}
}

// end counts the call. node is who says to have answered; empty = nobody.
func (r *running) end(result stats.Result, err error, node string) {
	c := stats.Call{Result: result, Unsafe: r.unsafe, Attempts: len(r.info.Attempts), Took: time.Since(r.due)}
	if err == nil {
		c.Node = r.info.Node
		if name, ok := r.s.names[c.Node]; ok {
			c.Node = name
		}
	} else {
		c.Reason = reason(r.info.Class, err)
	}
	r.s.rules.ended(r.id, result, &r.info, err, node, c.Node)
	r.s.rec.End(c)
}

// drop counts a call that was not made because too many were under way.
func (s *side) drop() {
	s.rec.Begin()
	id := s.rules.offer(context.Background(), false)
	s.rules.ended(id, stats.Failed, &hull.CallInfo{Class: policy.ClassRefused}, nil, "", "")
	s.rec.End(stats.Call{Result: stats.Failed, Reason: "the caller is full: too many calls wait"})
}

// mistake reports whether an answer says that the request itself is wrong: then there is nothing to fall back from.
func mistake(err error) bool {
	switch status.CodeOf(err) {
	case status.InvalidArgument, status.AlreadyExists, status.NotFound, status.FailedPrecondition, status.OutOfRange:
		return true
	}
	return false
}

// reason puts an error into a few words, without what differs from call to call.
func reason(c policy.Class, err error) string {
	switch c {
	case policy.ClassRefused:
		if e, ok := errors.AsType[*status.Error](err); ok && e.Refusal != nil {
			return "not sent: " + e.Refusal.Policy + " " + e.Refusal.State
		}
		return "not sent: no node"
	case policy.ClassTimeout, policy.ClassDeadlineLate, policy.ClassDeadlineSoon, policy.ClassExpired:
		return "no answer in time"
	case policy.ClassUnsent:
		return "no connection"
	case policy.ClassReset:
		return "connection lost"
	case policy.ClassProtocol:
		return "wrong answer"
	case policy.ClassUnavailable, policy.ClassInternal:
		return "error answered"
	}
	return c.String()
}
