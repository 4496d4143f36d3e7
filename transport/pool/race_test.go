package pool_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport/pool"
)

// TestTurmoil lets everything happen at once, in real time, and ends with nothing open.
func TestTurmoil(t *testing.T) {
	d := &fakeDialer{}
	p, err := pool.New(d, pool.Options{Backoff: time.Microsecond, IdleTime: 4 * time.Millisecond,
		OnState: func(*pool.Node, bool, *status.Error) {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, err := p.Get(ctx, strconv.Itoa(rand.IntN(3)), policy.Now().Add(time.Millisecond))
				if err != nil {
					if err.Fate != status.NotSent {
						t.Error(err)
					}
					continue
				}
				f := c.(*fakeConn)
				f.inFlight.Add(1)
				switch rand.IntN(50) {
				case 0:
					_ = f.Close()
				case 1:
					f.worn.Store(true)
				}
				f.inFlight.Add(-1)
			}
		})
	}
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			d.set(func() {
				d.err = nil
				if i%3 == 0 {
					d.err = refused
				}
			})
			switch i % 50 {
			case 10:
				p.Forget("1")
			case 20:
				p.Retain([]string{"0", "2"})
			}
			p.Snapshot()
		}
	})
	wg.Wait()
	_ = p.Close()
	for i, c := range d.conns {
		select {
		case <-c.Done():
		default:
			t.Errorf("connection %d of %d is still open", i, len(d.conns))
		}
	}
}

func BenchmarkGet(b *testing.B) {
	p, err := pool.New(&fakeDialer{}, pool.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	n := p.Node(addr)
	ctx := context.Background()
	get := func(b *testing.B, f func() *status.Error) {
		c, err := n.Get(ctx, 0)
		if err != nil {
			b.Fatal(err)
		}
		c.(*fakeConn).inFlight.Store(growLoad)
		for len(n.State().Conns) < 2 {
			_, _ = n.Get(ctx, 0)
			runtime.Gosched()
		}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := f(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.Run("node", func(b *testing.B) {
		get(b, func() *status.Error { _, err := n.Get(ctx, 0); return err })
	})
	b.Run("pool", func(b *testing.B) {
		get(b, func() *status.Error { _, err := p.Get(ctx, addr, 0); return err })
	})
}

// growLoad is enough load for a second connection.
const growLoad = 2

// TestGetAllocatesNothing holds the hot path to its promise.
func TestGetAllocatesNothing(t *testing.T) {
	p, err := pool.New(&fakeDialer{}, pool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	get := func() {
		if _, err := p.Get(t.Context(), addr, 0); err != nil {
			t.Fatal(err)
		}
	}
	get()
	if n := testing.AllocsPerRun(1000, get); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
