package transporttest

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
)

// handler is the service that the suite calls. What a method does is in its name.
type handler struct {
	running sync.WaitGroup
	// started gets the name of each method as its handler starts, if somebody listens; ended why its context ended.
	started chan string
	ended   chan error
	gate    chan struct{} // "Block" and "Deaf" wait for it
	once    sync.Once

	mu   sync.Mutex
	last transport.Incoming
	runs map[string]int
}

func newHandler() *handler {
	return &handler{started: make(chan string, 4096), ended: make(chan error, 4096), gate: make(chan struct{}), runs: map[string]int{}}
}

// awaitEnd waits until a handler has seen its context end.
func (h *handler) awaitEnd() {
	<-h.ended //nolint:errcheck // why it ended is another test's business
}

// release lets handlers go that wait for it.
func (h *handler) release() { h.once.Do(func() { close(h.gate) }) }

// begin records that a handler started.
func (h *handler) begin(in *transport.Incoming) (method string) {
	method = strings.TrimPrefix(in.Method, "test.Suite/")
	h.mu.Lock()
	h.runs[method]++
	h.last = *in
	h.last.Payload = append([]byte(nil), in.Payload...)
	h.mu.Unlock()
	select {
	case h.started <- method:
	default:
	}
	return method
}

func (h *handler) ran(method string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs[method]
}

// seen returns the last request.
func (h *handler) seen() transport.Incoming {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func bytesAnswer(b []byte) transport.Outgoing {
	return transport.Outgoing{Codec: codec.Bytes{}, Message: &b}
}

// richError has everything in it that an answer can say.
func richError() *status.Error {
	return &status.Error{Code: status.FailedPrecondition, Message: "not now", Origin: status.Downstream, Pushback: 1500 * time.Millisecond,
		Details: []status.Detail{{TypeURL: "type.googleapis.com/a.B", Value: []byte{1, 0, 255}}, {TypeURL: "type.googleapis.com/c.D"}}}
}

// Unary implements transport.Handler.
func (h *handler) Unary(ctx context.Context, in *transport.Incoming) transport.Outgoing {
	h.running.Add(1)
	defer h.running.Done()
	switch h.begin(in) {
	case "Echo":
		return bytesAnswer(in.Payload)
	case "Meta":
		out := bytesAnswer(nil)
		out.Header = transport.Metadata{{Key: "head", Value: in.Metadata.Get("say")}, {Key: "n", Value: strconv.Itoa(len(in.Metadata))}}
		out.Trailer = transport.Metadata{{Key: "trail-bin", Value: "\x00\xff"}}
		out.Load.InFlight = 7
		return out
	case "Error":
		return transport.Outgoing{Status: richError(), Trailer: transport.Metadata{{Key: "trail", Value: "err"}}}
	case "Lie": // an error of a call below, whose fate is not that of this one
		return transport.Outgoing{Status: &status.Error{Code: status.Unavailable, Kind: status.Dial, Fate: status.NotSent, Message: "below"}}
	case "Shed":
		return transport.Outgoing{Status: &status.Error{Code: status.ResourceExhausted, Kind: status.Shed, Fate: status.NotSent}}
	case "Wait":
		<-ctx.Done()
		h.ended <- ctx.Err()
		return transport.Outgoing{Status: status.From(ctx.Err())}
	case "Block", "Deaf":
		<-h.gate
		return bytesAnswer([]byte("released"))
	case "Sleep":
		d, _ := time.ParseDuration(string(in.Payload))
		time.Sleep(d)
		return bytesAnswer([]byte("slept"))
	case "Panic":
		panic("told to")
	case "Goexit":
		runtime.Goexit()
	case "Large":
		n, _ := strconv.Atoi(string(in.Payload))
		return bytesAnswer(make([]byte, n))
	case "BadCodec":
		return transport.Outgoing{Codec: codec.Bytes{}, Message: 42}
	}
	return transport.Outgoing{Status: &status.Error{Code: status.Unimplemented, Kind: status.NoMethod, Fate: status.NotSent, Message: "no such method"}}
}

// Stream implements transport.Handler.
func (h *handler) Stream(ctx context.Context, in *transport.Incoming, s transport.ServerStream) transport.Outgoing {
	h.running.Add(1)
	defer h.running.Done()
	s.SetCodec(codec.Bytes{})
	var b []byte
	switch h.begin(in) {
	case "Bidi":
		for {
			if err := s.Recv(&b); err != nil {
				return h.end(err)
			}
			if err := s.Send(&b); err != nil {
				return h.end(err)
			}
		}
	case "Collect": // many to one: the sum of the sizes
		sum := 0
		for {
			err := s.Recv(&b)
			if errors.Is(err, io.EOF) {
				b = strconv.AppendInt(nil, int64(sum), 10)
				if err := s.Send(&b); err != nil {
					return transport.Outgoing{Status: err}
				}
				return transport.Outgoing{Trailer: transport.Metadata{{Key: "trail", Value: "sum"}}}
			}
			if err != nil {
				return h.end(err)
			}
			sum += len(b)
		}
	case "Emit": // one to many: the request says how many and of which size
		if err := s.Recv(&b); err != nil {
			return h.end(err)
		}
		var n, size int
		for i, f := range strings.Fields(string(b)) {
			v, _ := strconv.Atoi(f)
			if i == 0 {
				n = v
			} else {
				size = v
			}
		}
		if err := s.SendHeader(transport.Metadata{{Key: "head", Value: in.Metadata.Get("say")}}); err != nil {
			return transport.Outgoing{Status: err}
		}
		msg := make([]byte, size)
		for range n {
			if err := s.Send(&msg); err != nil {
				return h.end(err)
			}
		}
		return transport.Outgoing{}
	case "Error":
		return transport.Outgoing{Status: richError(), Header: transport.Metadata{{Key: "head", Value: "late"}}, Trailer: transport.Metadata{{Key: "trail", Value: "err"}}}
	case "Wait":
		<-ctx.Done()
		h.ended <- ctx.Err()
		return transport.Outgoing{Status: status.From(ctx.Err())}
	case "Stuck": // reads nothing, until it is let go
		<-h.gate
		return transport.Outgoing{}
	case "Panic":
		panic("told to")
	}
	return transport.Outgoing{Status: &status.Error{Code: status.Unimplemented, Kind: status.NoMethod, Fate: status.NotSent, Message: "no such method"}}
}

// end turns why a stream's handler stopped into its answer.
func (h *handler) end(err error) transport.Outgoing {
	if errors.Is(err, io.EOF) {
		return transport.Outgoing{}
	}
	select {
	case h.ended <- err:
	default:
	}
	return transport.Outgoing{Status: status.From(err)}
}
