// Package scenarios_test plays outages that have happened to others, with real programs: servers and callers are processes of their own, this
// test binary in a role each, and talk over TCP. Each scenario is played without protection, with single cures, and with Hull as
// it is with nothing configured. Package sim plays the same outages in virtual time, many times over; here it shows whether that is true.
//
// How much a server can do is set by its handlers, which sleep in turn: so little that servers and callers need a fraction of the processors.
//
//	go test ./scenarios                                # short versions of some, and wide margins
//	go test ./scenarios -run Real -full -v             # all of them, in three rounds: 25 minutes
//	go test ./scenarios -run Real/retry-storm -full -v
//	go test ./scenarios -run Real -full -update        # writes docs/scenarios.md
package scenarios_test

import (
	"flag"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/integration/natsserver"
)

var (
	full   = flag.Bool("full", false, "play all scenarios at their full length")
	rounds = flag.Int("rounds", 3, "with -full: how often each is played")
	update = flag.Bool("update", false, "with -full: write what is played into docs/scenarios.md")
)

// atOnce is how many programs' stories are played at the same time. They mostly sleep.
const atOnce = "12"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	engine.Main(m, map[string]func([]string, func(string)) error{"nats": serveNATS, "node": serveNode, "caller": serveCaller, "plant": servePlant})
}

// serveNATS runs the registry of one scenario, with its data in a directory.
func serveNATS(args []string, listening func(string)) error {
	return natsserver.ServeDir(args[0], args[1], listening)
}

// pass lets time go by.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}
