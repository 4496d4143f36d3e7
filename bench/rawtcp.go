package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/bench/echopb"
)

// rawTCPRival is no product but a floor: what length-prefixed protobuf costs
// with no framework at all and nothing shared between calls.
type rawTCPRival struct{}

func (rawTCPRival) Info() Info {
	return Info{
		Name:   "raw-tcp",
		Module: "std",
		Setup:  "4 bytes of length and protobuf, blocking, a connection per call in flight; deadline by SetDeadline",
	}
}

func (rawTCPRival) Serve(ctx context.Context, ln net.Listener) error {
	return acceptLoop(ctx, ln, func(c net.Conn) {
		defer c.Close()
		rc := rawConn{Conn: c}
		for {
			var m echopb.Msg
			if rc.read(&m) != nil || rc.write(&m) != nil {
				return
			}
		}
	})
}

func (rawTCPRival) Dial(_ context.Context, addr string) (Caller, error) {
	return &rawTCPCaller{addr: addr}, nil
}

// rawLimit bounds what a length prefix may ask for.
const rawLimit = 4 << 20

// rawConn reads and writes messages, each with one system call if it arrives
// whole. One goroutine at a time.
type rawConn struct {
	net.Conn
	in, out []byte
	n       int // bytes of in that hold data not used yet
}

func (c *rawConn) write(m *echopb.Msg) error {
	out, err := proto.MarshalOptions{}.MarshalAppend(append(c.out[:0], 0, 0, 0, 0), m)
	if err != nil {
		return err
	}
	c.out = out
	binary.LittleEndian.PutUint32(out, uint32(len(out)-4))
	_, err = c.Write(out)
	return err
}

func (c *rawConn) read(m *echopb.Msg) error {
	if err := c.fill(4); err != nil {
		return err
	}
	size := int(binary.LittleEndian.Uint32(c.in))
	if size > rawLimit {
		return fmt.Errorf("message of %d bytes is over the limit of %d", size, rawLimit)
	}
	if err := c.fill(4 + size); err != nil {
		return err
	}
	err := proto.Unmarshal(c.in[4:4+size], m)
	c.n = copy(c.in, c.in[4+size:c.n])
	return err
}

// fill reads until at least n bytes are there.
func (c *rawConn) fill(n int) error {
	if len(c.in) < n {
		in := make([]byte, max(2*n, 4096))
		copy(in, c.in[:c.n])
		c.in = in
	}
	if c.n >= n {
		return nil
	}
	got, err := io.ReadAtLeast(c.Conn, c.in[c.n:], n-c.n)
	c.n += got
	return err
}

type rawTCPCaller struct {
	addr string

	mu   sync.Mutex
	idle []*rawConn
}

func (c *rawTCPCaller) Call(ctx context.Context, m *echopb.Msg) (*echopb.Msg, error) {
	conn, err := c.take(ctx)
	if err != nil {
		return nil, err
	}
	out := new(echopb.Msg)
	err = conn.SetDeadline(time.Now().Add(callTimeout))
	if err == nil {
		err = conn.write(m)
	}
	if err == nil {
		err = conn.read(out)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c.mu.Lock()
	c.idle = append(c.idle, conn)
	c.mu.Unlock()
	return out, nil
}

func (c *rawTCPCaller) take(ctx context.Context) (*rawConn, error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		conn := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return conn, nil
	}
	c.mu.Unlock()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	return &rawConn{Conn: conn}, nil
}

func (c *rawTCPCaller) Close() error {
	var errs []error
	for _, conn := range c.idle {
		errs = append(errs, conn.Close())
	}
	c.idle = nil
	return errors.Join(errs...)
}
