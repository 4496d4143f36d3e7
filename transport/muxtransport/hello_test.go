package muxtransport

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport/memnet"
)

// A limit that HELLO does not mention has its default, and one that it says to be 0 is 0.
func TestHelloWithoutKeys(t *testing.T) {
	var o Options
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	want := o.hello(nil)
	want.unpacks, want.wish, want.names, want.features = 0, 0, 0, 0
	if h, err := parseHello(nil); err != nil || h != want {
		t.Errorf("an empty HELLO means %+v, %v; want %+v", h, err, want)
	}
	if h, err := parseHello([]byte{helloMaxMessage, 0}); err != nil || h.maxMessage != 0 || h.maxHeader != want.maxHeader {
		t.Errorf("a HELLO with one key means %+v, %v", h, err)
	}
}

// A client that says nothing of itself is answered.
func TestEmptyHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, drainHandler{}, Options{}, memnet.Options{})
		defer r.stop()
		s := script{b: appendFrame(preface{min: 1, max: 1}.bytes(), typeHello, 0)}
		c := r.raw(t, s.call(typeCall, 1<<16, callHead{method: 1, name: "a.B/C", codec: "bytes"}, "x").b)
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		said, _ := io.ReadAll(c) // to the deadline
		if got := answers(t, said); len(got) != 1 || got[0] != status.OK {
			t.Errorf("answered %v; want OK", got)
		}
	})
}
