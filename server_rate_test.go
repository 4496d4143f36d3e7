package hull_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// TestRateIsOfEachCaller: who makes more calls than it may is refused, and nobody else; and not who makes them over several connections.
func TestRateIsOfEachCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		doc, err := spec.Parse("doc", []byte(`services: {plant: {server_rate: {limit: 5, burst: 5}}}`))
		if err != nil {
			t.Fatal(err)
		}
		w := hulltest.New(t)
		n := w.Serve("plant", "a", hanging(nil, new(atomic.Int64)), hull.WithSpec(doc))
		greedy := []*hull.Client{w.Client("greedy", bare()), w.Client("greedy", bare())} // of one host
		modest := w.Client("modest", bare())
		for range 10 { // seconds
			served, refused := 0, 0
			for i := range 20 {
				switch err := status.From(callPlant(t.Context(), greedy[i%2], "Work")); {
				case err == nil:
					served++
				case err.Kind == status.Quota:
					refused++
				default:
					t.Error(err)
				}
			}
			if served != 5 || refused != 15 {
				t.Errorf("of 20 calls of the greedy one %d were served and %d refused, want 5 and 15", served, refused)
			}
			for range 4 {
				if err := callPlant(t.Context(), modest, "Work"); err != nil {
					t.Errorf("the modest one: %v", err)
				}
			}
			time.Sleep(time.Second)
		}
		if a := n.Server.Snapshot().Admission; a.Refused.Rate != 150 {
			t.Errorf("%+v", a.Refused)
		}
	})
}
