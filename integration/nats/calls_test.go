package nats_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
)

// Calls between living nodes do not notice what befalls NATS.
func TestCallsGoOn(t *testing.T) {
	users := func(password string) string {
		return fmt.Sprintf("authorization { users: [ {user: hull, password: %q} ] }", password)
	}
	n := start(t, users("secret"))
	set := func(password string) func() {
		return func() {
			n.configure(users(password))
			n.Signal(syscall.SIGHUP)
		}
	}
	const long = ttl + ttl/2
	engine.Calls(t, ttl, func() registry.Driver { return n.open(t, "hull:secret@", "") },
		engine.Fault{Name: "credentials revoked", Begin: set("other"), End: set("secret"), Hold: long},
		engine.Fault{Name: "slow", Begin: func() { n.Slow(100 * time.Millisecond) }, End: func() { n.Slow(0) }, Hold: ttl},
		engine.Fault{Name: "restarted at once", Begin: func() { n.kill(); n.start() }},
		engine.Fault{Name: "killed", Begin: n.kill, End: n.start, Hold: long},
		engine.Fault{Name: "frozen until all keys are over", Begin: n.Freeze, End: n.Thaw, Hold: long},
		engine.Fault{Name: "cut off silently", Begin: n.Cut, End: n.Mend, Hold: long},
		engine.Fault{Name: "wiped empty", Begin: n.wipe},
	)
}
