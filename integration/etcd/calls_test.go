package etcd_test

import (
	"context"
	"testing"
	"time"

	"github.com/hull-go/hull/integration/engine"
	"github.com/hull-go/hull/registry"
)

// Calls between living nodes do not notice what befalls etcd.
func TestCallsGoOn(t *testing.T) {
	m := cluster(t, 1)[0]
	root := protect(t, m)
	password := func(p string) func() {
		return func() {
			if _, err := root.UserChangePassword(context.Background(), "hull", p); err != nil {
				t.Error(err)
			}
		}
	}
	const long = ttl + ttl/2
	engine.Calls(t, ttl, func() registry.Driver { return openAs(t, m, "hull:secret@", "") },
		engine.Fault{Name: "credentials revoked", Begin: password("other"), End: password("secret"), Hold: long},
		engine.Fault{Name: "slow", Begin: func() { m.Slow(300 * time.Millisecond) }, End: func() { m.Slow(0) }, Hold: ttl},
		engine.Fault{Name: "restarted at once", Begin: func() { m.kill(); m.start() }},
		engine.Fault{Name: "killed", Begin: m.kill, End: m.start, Hold: long},
		engine.Fault{Name: "frozen until all leases are over", Begin: m.Freeze, End: m.Thaw, Hold: long},
		engine.Fault{Name: "cut off silently", Begin: m.Cut, End: m.Mend, Hold: long},
	)
}

func TestCallsGoOnWithoutData(t *testing.T) {
	m := cluster(t, 1)[0]
	engine.Calls(t, ttl, func() registry.Driver { return open(t, "", m) },
		engine.Fault{Name: "wiped empty", Begin: func() { m.wipe(t) }})
}
