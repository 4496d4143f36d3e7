package backend

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/demo/board"
	"github.com/hull-go/hull/demo/faults"
	"github.com/hull-go/hull/demo/store"
	"github.com/hull-go/hull/status"
)

// service is the board of one node. It is the same behind RPC and REST, faults included.
type service struct {
	node   string
	store  *store.Store
	faults *faults.Set
	// work is how long a call takes beside the database: what a real service does with its data.
	work time.Duration
}

// through runs one call: the work, f, and whatever is wrong with the node.
func through[Rep any](ctx context.Context, s *service, f func(context.Context) (*Rep, error)) (*Rep, error) {
	rep, err := s.faults.Pass(ctx, func(ctx context.Context) (any, error) {
		t := time.NewTimer(s.work)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		return f(ctx)
	})
	if err != nil {
		return nil, code(err)
	}
	return rep.(*Rep), nil
}

// list serves board.MethodList.
func (s *service) list(ctx context.Context, r *board.ListRequest) (*board.ListReply, error) {
	if err := r.Validate(); err != nil {
		return nil, status.Errorf(status.InvalidArgument, "%w", err)
	}
	return through(ctx, s, func(ctx context.Context) (*board.ListReply, error) {
		list, err := s.store.List(ctx, r.Room, r.Limit)
		if err != nil {
			return nil, err
		}
		rep := &board.ListReply{Messages: list, Node: s.node}
		rep.Seal()
		return rep, nil
	})
}

// save serves board.MethodSave.
func (s *service) save(ctx context.Context, m *board.Message) (*board.SaveReply, error) {
	if err := m.Validate(); err != nil {
		return nil, status.Errorf(status.InvalidArgument, "%w", err)
	}
	return through(ctx, s, func(ctx context.Context) (*board.SaveReply, error) { return s.keep(ctx, *m) })
}

// post serves board.MethodPost.
func (s *service) post(ctx context.Context, r *board.PostRequest) (*board.SaveReply, error) {
	m := board.Message{ID: "post-" + rand.Text(), Room: r.Room, Author: r.Author, Text: r.Text}
	return s.save(ctx, &m)
}

// get returns one message.
func (s *service) get(ctx context.Context, id string) (*board.SaveReply, error) {
	return through(ctx, s, func(ctx context.Context) (*board.SaveReply, error) {
		m, err := s.store.Get(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("message %q: %w", id, err)
		}
		return s.seal(m), nil
	})
}

func (s *service) keep(ctx context.Context, m board.Message) (*board.SaveReply, error) {
	stored, err := s.store.Save(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("message %q: %w", m.ID, err)
	}
	return s.seal(stored), nil
}

func (s *service) seal(m board.Message) *board.SaveReply {
	rep := &board.SaveReply{Message: m, Node: s.node}
	rep.Seal()
	return rep
}

// code gives an error the code that tells callers what to do about it.
func code(err error) error {
	var e *status.Error
	switch {
	case errors.As(err, &e):
		return err
	case errors.Is(err, store.ErrConflict):
		return status.Errorf(status.AlreadyExists, "%w", err)
	case errors.Is(err, store.ErrNotFound):
		return status.Errorf(status.NotFound, "%w", err)
	case errors.Is(err, store.ErrBusy):
		return status.Errorf(status.Unavailable, "%w", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return err
	}
	return status.Errorf(status.Internal, "%w", err)
}

// register adds the board's methods to a server, with what callers may do with them.
func (s *service) register(srv *hull.Server) {
	hull.Handle(srv, board.MethodList, s.list, hull.SideEffectFree())
	hull.Handle(srv, board.MethodSave, s.save, hull.Idempotent())
	hull.Handle(srv, board.MethodPost, s.post)
}
