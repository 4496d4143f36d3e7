package registry

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
)

func TestRoster(t *testing.T) {
	r := NewRoster("s")
	put := func(id string) {
		t.Helper()
		data, err := EncodeNode(&Node{Service: "s", ID: id, Address: "h:1"})
		if err != nil {
			t.Fatal(err)
		}
		r.Put(id, data)
	}
	tell := func(what string, nodes, left, refused int) {
		t.Helper()
		if !r.Changed() {
			t.Errorf("%s: nothing to tell", what)
		}
		up := r.Update()
		if len(up.Nodes) != nodes || len(up.Left) != left || len(up.Refused) != refused {
			t.Errorf("%s: %d nodes, %d left, %d refused; want %d, %d, %d", what, len(up.Nodes), len(up.Left), len(up.Refused), nodes, left, refused)
		}
		if r.Changed() {
			t.Errorf("%s: it is told twice", what)
		}
	}
	tell("at first", 0, 0, 0)
	put("a")
	put("b")
	r.Put("c", []byte("garbage"))
	tell("two and garbage", 2, 0, 1)
	r.Put("b", []byte("garbage"))
	tell("a node turns to garbage", 1, 0, 1)
	r.Leave("a", "deregistered")
	tell("one leaves", 0, 1, 0)
	r.Remove("a")
	if r.Changed() {
		t.Error("what was not there was removed")
	}
	r.Leave("a", "deregistered")
	put("a")
	tell("it left and is back", 1, 0, 0)
	for range 2 * maxRefused {
		r.Refuse("x", errors.New("bad"))
	}
	tell("garbage without end", 1, 0, maxRefused)
}

// Whoever writes a million nodes into an engine gets a hundred thousand of them believed, and one complaint.
func TestAMillionNodes(t *testing.T) {
	r := NewRoster("s")
	for i := range 1_000_000 {
		r.Add(&Node{Service: "s", ID: strconv.Itoa(i), Address: "h:1"})
	}
	if !r.Full() {
		t.Error("it takes more")
	}
	up := r.Update()
	if len(up.Nodes) != maxNodes+1 { // one more, so that the Registry says so
		t.Errorf("%d nodes", len(up.Nodes))
	}
	synctest.Test(t, func(t *testing.T) {
		d, logged := newTestDriver(), &logLines{}
		reg := mustNew(t, d, Options{Logger: logged.logger()})
		defer reg.Close()
		v := reg.Open("s")
		for range 2 {
			d.feed <- up
		}
		synctest.Wait()
		if n := len(v.Snapshot().Nodes); n != maxNodes || logged.count("is ignored") != 1 {
			t.Errorf("%d nodes, %d complaints", n, logged.count("is ignored"))
		}
	})
}
