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
	"github.com/hull-go/hull/bench/echovt"
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
	// shapePingPongBeside: shapePingPong, while others receive streams of large messages.
	shapePingPongBeside = "pingpong-beside"
)

func shapes() []string {
	return []string{shapeUnary, shapeBidi, shapePingPong, shapeUp, shapeDown, shapeBesideCalls, shapeBesideStreams, shapePingPongBeside}
}

// hasBulk reports whether others get large messages beside what is measured.
func hasBulk(shape string) bool {
	return shape == shapeBesideCalls || shape == shapeBesideStreams || shape == shapePingPongBeside
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

// kind is the type of a stream's messages.
type kind int

const (
	kindProto kind = iota // ordinary generated messages
	kindVT                // with vtprotobuf's methods
	kindRaw               // bytes
)

// A kindStreamer streams messages of another kind than kindProto. Its server has called registerStreams with them.
type kindStreamer interface {
	Streamer
	Kind() kind
}

// message is a message of one kind or the other.
type message[M any] interface {
	*M
	GetId() string
	GetText() string
	GetN() int64
	GetOk() bool
	GetData() []byte
}

// copyOf returns a message with m's content.
func copyOf[M any, P message[M]](m *echopb.Msg) P {
	p := P(new(M))
	switch x := any(p).(type) {
	case *echopb.Msg:
		x.Id, x.Text, x.N, x.Ok, x.Data = m.Id, m.Text, m.N, m.Ok, m.Data
	case *echovt.Msg:
		x.Id, x.Text, x.N, x.Ok, x.Data = m.Id, m.Text, m.N, m.Ok, m.Data
	case *rawMsg:
		*x = *rawCopy(m)
	}
	return p
}

// number gives a message the number that tells it apart.
func number(m any, n int64) {
	switch m := m.(type) {
	case *echopb.Msg:
		m.N = n
	case *echovt.Msg:
		m.N = n
	case *rawMsg:
		m.setN(n)
	}
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

// clockEvery is after how many messages of a stream on which nobody waits the clock is looked at, which takes as long as a tenth of a
// message.
const clockEvery = 32

// The service beside echo.proto's, written as the generated code would be: not every rival's generator knows streams.
const streamService = "hullbench.Streams"

type streamServer[M any, P message[M]] interface {
	bidi(s grpc.BidiStreamingServer[M, M]) error
	up(s grpc.ClientStreamingServer[M, M]) error
	down(m P, s grpc.ServerStreamingServer[M]) error
	large() P
}

// registerStreams adds the streaming service to a server.
func registerStreams[M any, P message[M]](r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: streamService,
		HandlerType: (*streamServer[M, P])(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Large",
			Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				m := new(M)
				if err := dec(m); err != nil {
					return nil, err
				}
				return srv.(streamServer[M, P]).large(), nil
			}}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Bidi", ClientStreams: true, ServerStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
				return srv.(streamServer[M, P]).bidi(&grpc.GenericServerStream[M, M]{ServerStream: s})
			}},
			{StreamName: "Up", ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
				return srv.(streamServer[M, P]).up(&grpc.GenericServerStream[M, M]{ServerStream: s})
			}},
			{StreamName: "Down", ServerStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
				m := new(M)
				if err := s.RecvMsg(m); err != nil {
					return err
				}
				return srv.(streamServer[M, P]).down(m, &grpc.GenericServerStream[M, M]{ServerStream: s})
			}},
		},
	}, &streams[M, P]{bulk: sync.OnceValue(func() P { return copyOf[M, P](newMsg(0, bulkSize)) })})
}

// streams is the service. Its large message is made when it is first asked for: a heap that holds a megabyte more is collected more often, and
// only servers of those that have streams would hold it.
type streams[M any, P message[M]] struct{ bulk func() P }

func (*streams[M, P]) bidi(s grpc.BidiStreamingServer[M, M]) error {
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
func (*streams[M, P]) up(s grpc.ClientStreamingServer[M, M]) error {
	for n := int64(0); ; n++ {
		_, err := s.Recv()
		if errors.Is(err, io.EOF) {
			answer := new(M)
			number(answer, n)
			return s.SendAndClose(answer)
		}
		if err != nil {
			return err
		}
	}
}

// down sends m, or a large message if m is not Ok, until the caller gives up.
func (b *streams[M, P]) down(m P, s grpc.ServerStreamingServer[M]) error {
	if !m.GetOk() {
		m = b.bulk()
	}
	for {
		if err := s.Send(m); err != nil {
			return err
		}
	}
}

func (b *streams[M, P]) large() P { return b.bulk() }

func open[M any](ctx context.Context, cc grpc.ClientConnInterface, method string, up, down bool) (*grpc.GenericClientStream[M, M], error) {
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{StreamName: method, ClientStreams: up, ServerStreams: down}, "/"+streamService+"/"+method)
	if err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[M, M]{ClientStream: s}, nil
}

// stream works for d from start in the shape's way, with messages of the kind M. A stream has no deadline: it is as long as the run.
func stream[M any, P message[M]](w *worker, cc grpc.ClientConnInterface, shape string, start time.Time, d time.Duration) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	msg := copyOf[M, P](w.msg)
	switch shape {
	case shapeBidi:
		return bidi(ctx, w, cc, msg, start, d)
	case shapePingPong, shapePingPongBeside:
		return pingPong(ctx, w, cc, msg, start, d)
	case shapeUp:
		return up(ctx, w, cc, msg, start, d)
	case shapeDown:
		return down(ctx, w, cc, msg, start, d)
	}
	return fmt.Errorf("no stream has the shape %q", shape)
}

func bidi[M any, P message[M]](ctx context.Context, w *worker, cc grpc.ClientConnInterface, msg P, start time.Time, d time.Duration) error {
	s, err := open[M](ctx, cc, "Bidi", true, true)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	first := w.msg.N
	n := first
	go func() {
		for (n-first)%clockEvery != 0 || time.Since(start) < d {
			n++
			number(msg, n)
			if err := s.Send(msg); err != nil {
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
		if w.calls++; P(m).GetN() != first+int64(w.calls) {
			return fmt.Errorf("wrong answer: n=%d in the place of %d", P(m).GetN(), first+int64(w.calls))
		}
	}
	w.last = time.Since(start)
	if err := <-sent; err != nil {
		return err
	}
	w.msg.N = n
	if n := uint64(n - first); n != w.calls {
		return fmt.Errorf("%d messages sent, %d answers", n, w.calls)
	}
	return nil
}

func pingPong[M any, P message[M]](ctx context.Context, w *worker, cc grpc.ClientConnInterface, msg P, start time.Time, d time.Duration) error {
	s, err := open[M](ctx, cc, "Bidi", true, true)
	if err != nil {
		return err
	}
	w.last = time.Since(start)
	for w.last < d {
		w.msg.N++
		number(msg, w.msg.N)
		if err := s.Send(msg); err != nil {
			return err
		}
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if err := check(P(m), w.msg); err != nil {
			return err
		}
		w.count(start)
	}
	return s.CloseSend()
}

func up[M any, P message[M]](ctx context.Context, w *worker, cc grpc.ClientConnInterface, msg P, start time.Time, d time.Duration) error {
	s, err := open[M](ctx, cc, "Up", true, false)
	if err != nil {
		return err
	}
	for w.calls%clockEvery != 0 || time.Since(start) < d {
		if err := s.Send(msg); err != nil {
			return err
		}
		w.calls++
	}
	m, err := s.CloseAndRecv()
	if err != nil {
		return err
	}
	w.last = time.Since(start)
	if uint64(P(m).GetN()) != w.calls {
		return fmt.Errorf("%d messages sent, %d arrived", w.calls, P(m).GetN())
	}
	return nil
}

func down[M any, P message[M]](ctx context.Context, w *worker, cc grpc.ClientConnInterface, msg P, start time.Time, d time.Duration) error {
	s, err := open[M](ctx, cc, "Down", false, true)
	if err != nil {
		return err
	}
	if err := s.Send(msg); err != nil {
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
		if err := check(P(m), w.msg); err != nil {
			return err
		}
		if w.calls++; w.calls%clockEvery == 0 {
			w.last = time.Since(start)
		}
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

func startBulk[M any, P message[M]](cc grpc.ClientConnInterface, shape string) *bulk {
	ctx, cancel := context.WithCancel(context.Background())
	b := &bulk{cancel: cancel}
	get := bulkStream[M, P]
	if shape == shapeBesideCalls {
		get = bulkCalls[M, P]
	}
	for range bulkWorkers {
		b.wg.Go(func() {
			if err := get(ctx, b, cc); ctx.Err() == nil {
				b.mu.Lock()
				b.err = err
				b.mu.Unlock()
			}
		})
	}
	return b
}

func bulkCalls[M any, P message[M]](ctx context.Context, b *bulk, cc grpc.ClientConnInterface) error {
	for {
		cctx, cancel := context.WithTimeout(ctx, callTimeout)
		m := P(new(M))
		err := cc.Invoke(cctx, "/"+streamService+"/Large", new(M), m)
		cancel()
		if err != nil {
			return err
		}
		b.got(len(m.GetData()))
	}
}

func bulkStream[M any, P message[M]](ctx context.Context, b *bulk, cc grpc.ClientConnInterface) error {
	s, err := open[M](ctx, cc, "Down", false, true)
	if err != nil {
		return err
	}
	if err := s.Send(new(M)); err != nil {
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
		b.got(len(P(m).GetData()))
	}
}

func (b *bulk) got(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += int64(n)
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
