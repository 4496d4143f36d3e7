// Package chaos_test breaks real processes in every way that Hull promises to withstand: nodes that are killed and stopped, connections that are
// reset, networks that lose what they are given, a registry that is gone, callers that stand still. The processes are this test binary,
// each in a role; what each of them saw is in its ledger, and internal/invariant judges all ledgers together.
//
// Every test is small unless -full is given. TestSoak takes -soak.time, and its faults come from -soak.seed.
package chaos_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/hull-go/hull/integration/engine"
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

// serveNATS runs nats-server, the registry of these tests, with its data in a directory.
func serveNATS(args []string, listening func(string)) error {
	file := filepath.Join(args[0], "nats.conf")
	text := "listen: \"127.0.0.1:-1\"\njetstream { store_dir: \"" + filepath.Join(args[0], "store") + "\" }\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		return err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("not ready after a minute")
	}
	listening(s.Addr().String())
	s.WaitForShutdown()
	return errors.New("shut down")
}
