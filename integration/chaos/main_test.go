// Package chaos_test breaks real processes in every way that Hull promises to withstand: nodes that are killed and stopped, connections that are
// reset, networks that lose what they are given, a registry that is gone, callers that stand still. The processes are this test binary,
// each in a role; what each of them saw is in its ledger, and internal/invariant judges all ledgers together.
//
// Every test is small unless -full is given. TestSoak takes -soak.time, and its faults come from -soak.seed.
package chaos_test

import (
	"flag"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/integration/natsserver"
)

var (
	full     = flag.Bool("full", false, "run tests at their full size, which takes minutes each")
	soakFor  = flag.Duration("soak.time", 3*time.Minute, "how long TestSoak takes")
	soakSeed = flag.Uint64("soak.seed", 1, "the seed of TestSoak's faults; 0 = a new one")
)

// sayPID is what a process prints before its number.
const sayPID = "process"

func TestMain(m *testing.M) {
	engine.Main(m, map[string]func([]string, func(string)) error{"nats": serveNATS, "node": serveNode, "caller": serveCaller})
}

// serveNATS runs the registry of these tests, with its data in a directory.
func serveNATS(args []string, listening func(string)) error {
	return natsserver.ServeDir(args[0], "127.0.0.1:-1", listening)
}
