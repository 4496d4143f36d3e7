package sim_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hull-go/hull/sim"
)

// A store becomes four times as slow for five seconds. The calls that pile up meanwhile keep it busy for good, unless somebody does something about it.
func Example() {
	sc := sim.Scenario{
		Services: []sim.Service{{Name: "store", Cores: 1, Work: sim.Every(10 * time.Millisecond), Tries: 3}},
		Load:     []sim.Load{{Name: "calls", To: "store", Rate: sim.Steady(80)}},
		Faults:   []sim.Fault{{At: 5 * time.Second, For: 5 * time.Second, Do: sim.Slow("store", 4)}},
		Trouble:  sim.Span{From: 5 * time.Second, Until: 10 * time.Second},
		Last:     25 * time.Second,
		Holds:    func(r *sim.Run) bool { return r.Recovered("calls") },
		Rows: []sim.Row{
			{Name: "none", With: sim.Bare()},
			{Name: "a limit of 20", With: sim.Bare(sim.Limit(20))},
			{Name: "Hull", With: sim.Hull()},
		},
	}
	results, err := sc.Measure(context.Background(), 3, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := sc.WriteText(os.Stdout, results); err != nil {
		fmt.Println(err)
	}
	// Output:
	// protection      holds
	// none            never
	// a limit of 20  always
	// Hull           always
}
