package registry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// An entry that would have a program call itself in another's name is refused, unless its address is a proxy's.
func TestOwnAddress(t *testing.T) {
	for what, identifies := range map[string]bool{"its own": true, "a proxy's": false} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &announcing{testDriver: newTestDriver()}
				logged := &logLines{}
				r := mustNew(t, d, Options{Logger: logged.logger()})
				defer r.Close()
				v := r.Open("greeter")
				evil, good := testNode("evil"), testNode("good")
				d.feed <- Update{Nodes: []*Node{evil, good}}
				synctest.Wait()
				me := Node{Service: "greeter", ID: "me", Address: evil.Address, Identifies: identifies}
				also := Node{Service: "other", ID: "me", Address: evil.Address, Identifies: identifies}
				for _, n := range []Node{me, also} {
					if _, err := r.Register(t.Context(), n); err != nil {
						t.Fatal(err)
					}
				}
				for range 3 {
					d.feed <- Update{Nodes: []*Node{evil, good, &me}}
				}
				synctest.Wait()
				want, complaints := "good me", 1
				if !identifies {
					want, complaints = "evil good me", 0
				}
				if s := v.Snapshot(); show(s.Nodes) != want || logged.count("this program's own") != complaints {
					t.Errorf("%q, want %q; %d complaints", show(s.Nodes), want, logged.count("this program's own"))
				}
			})
		})
	}
}

// announcing is a driver that lets everything be announced.
type announcing struct{ *testDriver }

func (*announcing) Announce(context.Context, *Node, time.Duration) (Lease, error) {
	return lasting{}, nil
}

type lasting struct{}

func (lasting) Renew(context.Context) error         { return nil }
func (lasting) Update(context.Context, *Node) error { return nil }
func (lasting) Close(context.Context) error         { return nil }
