package prototable_test

import (
	"bytes"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/internal/prototable"
)

// Its file's name makes it the first of the package's tests, so that nobody
// knows any of the tables yet.
func TestConcurrentUse(t *testing.T) {
	r := seeded(t, 1, oddities{})
	type sample struct {
		m    proto.Message
		data []byte
	}
	var samples []sample
	for _, typ := range eligible() {
		m := r.message(typ)
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		samples = append(samples, sample{m, data})
	}
	start := make(chan struct{})
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			<-start
			for i := range samples {
				s := samples[(i+g)%len(samples)]
				if prototable.For(s.m) == nil {
					t.Errorf("%T has no table", s.m)
					return
				}
				for range 5 {
					got, ok := prototable.Encode(nil, s.m)
					if !ok || !bytes.Equal(got, s.data) {
						t.Errorf("%T encodes to %x, %v; want %x", s.m, got, ok, s.data)
						return
					}
					back := fresh(s.m)
					if !prototable.Decode(s.data, back) || !proto.Equal(back, s.m) {
						t.Errorf("%T from %x: got %v, want %v", s.m, s.data, back, s.m)
						return
					}
				}
			}
		})
	}
	close(start)
	all.Wait()
}
