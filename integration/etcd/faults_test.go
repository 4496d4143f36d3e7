package etcd_test

import (
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/registrytest"
)

func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name    string
		members int
		make    func(t *testing.T, m []*member) registrytest.Fault
	}{
		{"killed", 1, func(_ *testing.T, m []*member) registrytest.Fault {
			return registrytest.Fault{Begin: m[0].kill, End: m[0].start, Noticed: true, Refuses: true, Err: "etcd"}
		}},
		{"restarted at once", 1, func(_ *testing.T, m []*member) registrytest.Fault {
			return registrytest.Fault{Begin: func() { m[0].kill(); m[0].start() }}
		}},
		{"frozen until all leases are over", 1, func(_ *testing.T, m []*member) registrytest.Fault {
			return registrytest.Fault{Begin: m[0].Freeze, End: m[0].Thaw, Noticed: true, Refuses: true, Hold: ttl, Err: "does not answer"}
		}},
		{"cut off silently", 1, func(_ *testing.T, m []*member) registrytest.Fault {
			return registrytest.Fault{Begin: m[0].Cut, End: m[0].Mend, Noticed: true, Refuses: true, Hold: ttl, Err: "does not answer"}
		}},
		{"wiped empty", 1, func(t *testing.T, m []*member) registrytest.Fault {
			return registrytest.Fault{Begin: func() { m[0].wipe(t) }}
		}},
		{"slow", 1, func(_ *testing.T, m []*member) registrytest.Fault {
			return registrytest.Fault{Begin: func() { m[0].Slow(300 * time.Millisecond) }, End: func() { m[0].Slow(0) }, Hold: ttl}
		}},
		{"a cluster's leader killed", 3, func(t *testing.T, m []*member) registrytest.Fault {
			l := leader(t, m)
			return registrytest.Fault{Begin: l.kill, Hold: ttl}
		}},
		{"a cluster's leader frozen", 3, func(t *testing.T, m []*member) registrytest.Fault {
			l := leader(t, m)
			return registrytest.Fault{Begin: l.Freeze, End: l.Thaw, Hold: 2 * ttl}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			registrytest.RunFaults(t, func(t *testing.T) (registrytest.Harness, registrytest.Fault) {
				m := cluster(t, tt.members)
				return registrytest.Harness{TTL: ttl, Open: func() registry.Driver { return open(t, "", m...) }}, tt.make(t, m)
			})
		})
	}
}

// leader returns the member that leads.
func leader(t testing.TB, members []*member) *member {
	t.Helper()
	c := client(t, members[0])
	for _, m := range members {
		s, err := c.Status(t.Context(), m.direct)
		if err != nil {
			t.Fatal(err)
		}
		if s.Leader == s.Header.MemberId {
			return m
		}
	}
	t.Fatal("nobody leads")
	return nil
}
