package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/hull-go/hull/bench/echopb"
)

// The shapes of load. All but the first need a rival that streams.
const (
	shapeUnary = "unary"
	// shapeBidi: each worker has a stream on which it sends without waiting; the server answers each message. Counted are answers.
	shapeBidi = "bidi"
	// shapePingPong: the same, but a worker waits for each answer. Counted and timed are round trips.
	shapePingPong = "pingpong"
	// shapeUp and shapeDown: streams of the client's and of the server's messages.
	shapeUp   = "up"
	shapeDown = "down"
	// shapeBesideCalls and shapeBesideStreams: unary calls, while others make calls with large answers, or receive streams of
	// large messages. Counted and timed are the unary calls; what the others get is counted in bytes.
	shapeBesideCalls   = "beside-calls"
	shapeBesideStreams = "beside-streams"
)

func shapes() []string {
	return []string{shapeUnary, shapeBidi, shapePingPong, shapeUp, shapeDown, shapeBesideCalls, shapeBesideStreams}
}

const (
	// bulkSize is how large a large message is, and bulkWorkers how many get them at a time: enough that each of a rival's
	// connections carries some all the time.
	bulkSize    = 1 << 20
	bulkWorkers = 4
)

// A Streamer is a Caller that streams too. Its server has called registerStreams.
type Streamer interface {
	Caller
	Streams() grpc.ClientConnInterface
}

// parseShapes reads a list of shapes, separated by commas.
func parseShapes(list string) ([]string, error) {
	var picked []string
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); !slices.Contains(shapes(), s) {
			return nil, fmt.Errorf("%q is none of %s", s, strings.Join(shapes(), ", "))
		}
		picked = append(picked, s)
	}
	return picked, nil
}

// The service beside echo.proto's, written as the generated code would be: not every rival's generator knows streams.
const streamService = "hullbench.Streams"

type streamServer interface {
	bidi(s grpc.BidiStreamingServer[echopb.Msg, echopb.Msg]) error
	up(s grpc.ClientStreamingServer[echopb.Msg, echopb.Msg]) error
	down(m *echopb.Msg, s grpc.ServerStreamingServer[echopb.Msg]) error
	large() *echopb.Msg
}

// registerStreams adds the streaming service to a server.
func registerStreams(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: streamService,
		HandlerType: (*streamServer)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Large",
			Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				m := new(echopb.Msg)
				if err := dec(m); err != nil {
					return nil, err
				}
				return srv.(streamServer).large(), nil
			}}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Bidi", ClientStreams: true, ServerStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
				return srv.(streamServer).bidi(&grpc.GenericServerStream[echopb.Msg, echopb.Msg]{ServerStream: s})
			}},
			{StreamName: "Up", ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
				return srv.(streamServer).up(&grpc.GenericServerStream[echopb.Msg, echopb.Msg]{ServerStream: s})
			}},
			{StreamName: "Down", ServerStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
				m := new(echopb.Msg)
				if err := s.RecvMsg(m); err != nil {
					return err
				}
				return srv.(streamServer).down(m, &grpc.GenericServerStream[echopb.Msg, echopb.Msg]{ServerStream: s})
			}},
		},
	}, &streams{bulk: newMsg(0, bulkSize)})
}

// streams is the service.
type streams struct{ bulk *echopb.Msg }

func (*streams) bidi(s grpc.BidiStreamingServer[echopb.Msg, echopb.Msg]) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.Send(m)
		}
		if err != nil {
			return err
		}
	}
}

// up answers with the number of messages.
func (*streams) up(s grpc.ClientStreamingServer[echopb.Msg, echopb.Msg]) error {
	answer := new(echopb.Msg)
	for {
		_, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(answer)
		}
		if err != nil {
			return err
		}
		answer.N++
	}
}

// down sends m, or a large message if m is not Ok, until the caller gives up.
func (b *streams) down(m *echopb.Msg, s grpc.ServerStreamingServer[echopb.Msg]) error {
	if !m.GetOk() {
		m = b.bulk
	}
	for {
		if err := s.Send(m); err != nil {
			return err
		}
	}
}

func (b *streams) large() *echopb.Msg { return b.bulk }

func open(ctx context.Context, cc grpc.ClientConnInterface, method string, up, down bool) (*grpc.GenericClientStream[echopb.Msg, echopb.Msg], error) {
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{StreamName: method, ClientStreams: up, ServerStreams: down}, "/"+streamService+"/"+method)
	if err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[echopb.Msg, echopb.Msg]{ClientStream: s}, nil
}

// stream works for d from start in the shape's way. A stream has no deadline: it is as long as the run.
func (w *worker) stream(cc grpc.ClientConnInterface, shape string, start time.Time, d time.Duration) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch shape {
	case shapeBidi:
		return w.bidi(ctx, cc, start, d)
	case shapePingPong:
		return w.pingPong(ctx, cc, start, d)
	case shapeUp:
		return w.up(ctx, cc, start, d)
	case shapeDown:
		return w.down(ctx, cc, start, d)
	}
	return fmt.Errorf("no stream has the shape %q", shape)
}

func (w *worker) bidi(ctx context.Context, cc grpc.ClientConnInterface, start time.Time, d time.Duration) error {
	s, err := open(ctx, cc, "Bidi", true, true)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	first := w.msg.N
	go func() {
		for time.Since(start) < d {
			w.msg.N++
			if err := s.Send(w.msg); err != nil {
				sent <- err
				return
			}
		}
		sent <- s.CloseSend()
	}()
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if w.calls++; m.GetN() != first+int64(w.calls) {
			return fmt.Errorf("wrong answer: n=%d in the place of %d", m.GetN(), first+int64(w.calls))
		}
	}
	w.last = time.Since(start)
	if err := <-sent; err != nil {
		return err
	}
	if n := uint64(w.msg.N - first); n != w.calls {
		return fmt.Errorf("%d messages sent, %d answers", n, w.calls)
	}
	return nil
}

func (w *worker) pingPong(ctx context.Context, cc grpc.ClientConnInterface, start time.Time, d time.Duration) error {
	s, err := open(ctx, cc, "Bidi", true, true)
	if err != nil {
		return err
	}
	w.last = time.Since(start)
	for w.last < d {
		w.msg.N++
		if err := s.Send(w.msg); err != nil {
			return err
		}
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if err := check(m, w.msg); err != nil {
			return err
		}
		w.count(start)
	}
	return s.CloseSend()
}

func (w *worker) up(ctx context.Context, cc grpc.ClientConnInterface, start time.Time, d time.Duration) error {
	s, err := open(ctx, cc, "Up", true, false)
	if err != nil {
		return err
	}
	for time.Since(start) < d {
		if err := s.Send(w.msg); err != nil {
			return err
		}
		w.calls++
	}
	m, err := s.CloseAndRecv()
	if err != nil {
		return err
	}
	w.last = time.Since(start)
	if uint64(m.GetN()) != w.calls {
		return fmt.Errorf("%d messages sent, %d arrived", w.calls, m.GetN())
	}
	return nil
}

func (w *worker) down(ctx context.Context, cc grpc.ClientConnInterface, start time.Time, d time.Duration) error {
	s, err := open(ctx, cc, "Down", false, true)
	if err != nil {
		return err
	}
	if err := s.Send(w.msg); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for w.last < d {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if err := check(m, w.msg); err != nil {
			return err
		}
		w.calls++
		w.last = time.Since(start)
	}
	return nil
}

// A bulk gets large messages beside the calls that are measured, until it is stopped.
type bulk struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	bytes int64
	err   error
}

func startBulk(cc grpc.ClientConnInterface, shape string) *bulk {
	ctx, cancel := context.WithCancel(context.Background())
	b := &bulk{cancel: cancel}
	get := b.calls
	if shape == shapeBesideStreams {
		get = b.stream
	}
	for range bulkWorkers {
		b.wg.Go(func() {
			if err := get(ctx, cc); ctx.Err() == nil {
				b.mu.Lock()
				b.err = err
				b.mu.Unlock()
			}
		})
	}
	return b
}

func (b *bulk) calls(ctx context.Context, cc grpc.ClientConnInterface) error {
	for {
		cctx, cancel := context.WithTimeout(ctx, callTimeout)
		m := new(echopb.Msg)
		err := cc.Invoke(cctx, "/"+streamService+"/Large", &echopb.Msg{}, m)
		cancel()
		if err != nil {
			return err
		}
		b.got(m)
	}
}

func (b *bulk) stream(ctx context.Context, cc grpc.ClientConnInterface) error {
	s, err := open(ctx, cc, "Down", false, true)
	if err != nil {
		return err
	}
	if err := s.Send(&echopb.Msg{}); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		b.got(m)
	}
}

func (b *bulk) got(m *echopb.Msg) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += int64(len(m.GetData()))
}

// stop ends it and returns how much came.
func (b *bulk) stop() (int64, error) {
	b.mu.Lock()
	n, err := b.bytes, b.err
	b.mu.Unlock()
	b.cancel()
	b.wg.Wait()
	if err != nil {
		err = fmt.Errorf("beside the calls: %w", err)
	}
	return n, err
}
