package etcd_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
)

// A watch whose place in the history has been compacted away while it was disconnected lists anew, and goes on.
func TestCompaction(t *testing.T) {
	m := cluster(t, 1)[0]
	c := client(t, m)
	put := func(id string) {
		data, err := registry.EncodeNode(&registry.Node{Service: "greeter", ID: id, Address: "192.0.2.1:80"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Put(t.Context(), "/hull/greeter/nodes/"+id, string(data)); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, "", m)
	defer d.(io.Closer).Close()
	for try := range 20 {
		// Whether the watch outlives the interruption is a matter of time.
		old, id := fmt.Sprintf("old-%d", try), fmt.Sprintf("new-%d", try)
		put(old)
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan map[string]bool, 1000)
		ended := make(chan error, 1)
		go func() {
			ended <- d.Watch(ctx, "greeter", func(up registry.Update) {
				ids := map[string]bool{}
				for _, n := range up.Nodes {
					ids[n.ID] = true
				}
				seen <- ids
			})
		}()
		wait := func(fits func(map[string]bool) bool) bool {
			for {
				select {
				case ids := <-seen:
					if fits(ids) {
						return true
					}
				case err := <-ended:
					t.Logf("the watch ended: %v", err)
					return false
				case <-time.After(time.Minute):
					t.Fatal("nothing was seen")
				}
			}
		}
		if !wait(func(ids map[string]bool) bool { return ids[old] }) {
			t.Fatal("the watch did not begin")
		}
		m.Forward("")
		m.Reset()
		if _, err := c.Delete(t.Context(), "/hull/greeter/nodes/"+old); err != nil {
			t.Fatal(err)
		}
		put(id)
		res, err := c.Get(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Compact(t.Context(), res.Header.Revision); err != nil {
			t.Fatal(err)
		}
		m.Forward(m.direct)
		survived := wait(func(ids map[string]bool) bool { return ids[id] && !ids[old] })
		cancel()
		if survived {
			return
		}
	}
	t.Error("no watch outlived a short interruption in 20 tries")
}
