package etcd_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/registrytest"
)

func client(t testing.TB, m *member) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{m.direct}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConformance(t *testing.T) {
	m := cluster(t, 1)[0]
	var n atomic.Int64
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		prefix := fmt.Sprintf("/test-%d/", n.Add(1)) // an empty engine for each test
		c := client(t, m)
		return registrytest.Harness{
			Open: func() registry.Driver { return open(t, "?prefix="+prefix, m) },
			TTL:  2 * time.Second, // etcd's shortest
			Lose: func(service, id string) {
				if _, err := c.Delete(t.Context(), prefix+service+"/nodes/"+id); err != nil {
					t.Error(err)
				}
			},
			Plant: func(service, id, value string) {
				if _, err := c.Put(t.Context(), prefix+service+"/nodes/"+id, value); err != nil {
					t.Error(err)
				}
			},
		}
	})
}
