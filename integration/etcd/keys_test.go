package etcd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/etcdstore"
	"github.com/hull-go/hull/idempotency/storetest"
)

// The store of idempotency keys keeps its promises on a real etcd.
func TestKeys(t *testing.T) {
	m := cluster(t, 1)[0]
	raw := client(t, m)
	var n atomic.Int64
	var prefix string // of the test under way; they follow one another
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T) (a, b idempotency.Store) {
			prefix = fmt.Sprintf("/test-%d/", n.Add(1))
			var stores [2]idempotency.Store
			for i := range stores {
				s, err := etcdstore.New(client(t, m), etcdstore.Options{Prefix: prefix})
				if err != nil {
					t.Fatal(err)
				}
				stores[i] = s
			}
			return stores[0], stores[1]
		},
		Die: func(t *testing.T, _ idempotency.Store, owner string) {
			if _, err := raw.Delete(t.Context(), prefix+"owners/"+owner); err != nil {
				t.Fatal(err)
			}
		},
		Pass: func(t *testing.T, _ idempotency.Store, key string) {
			got, err := raw.Get(t.Context(), prefix+"calls/"+key)
			if err != nil || len(got.Kvs) != 1 {
				t.Fatal(got, err)
			}
			var record map[string]any
			if err := json.Unmarshal(got.Kvs[0].Value, &record); err != nil {
				t.Fatal(err)
			}
			record["expires"] = 1
			b, err := json.Marshal(record)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := raw.Put(t.Context(), prefix+"calls/"+key, string(b)); err != nil {
				t.Fatal(err)
			}
		},
	})
	if _, err := etcdstore.New(raw, etcdstore.Options{Prefix: "no slash"}); err == nil {
		t.Error("a prefix without a slash was taken")
	}
}

// etcd is killed and comes back while two processes work on the same keys: every key is answered in the end, and none starts twice.
func TestKeysWhileEtcdDies(t *testing.T) {
	t.Parallel()
	m := cluster(t, 1)[0]
	var guards [2]*idempotency.Guard
	for i := range guards {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{m.Addr()}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := etcdstore.New(c, etcdstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if guards[i], err = idempotency.New(idempotency.Options{Store: s, TTL: time.Minute}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { guards[i].Close(); _ = c.Close() })
	}
	var (
		mu     sync.Mutex
		starts = map[int]int{}
		next   atomic.Int64
		failed atomic.Int64
		stop   = make(chan struct{})
		work   sync.WaitGroup
	)
	pay := func(g *idempotency.Guard, key int) error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := g.Do(ctx, idempotency.Call{Key: fmt.Sprint("k", key), Method: "shop/Pay"}, func(context.Context) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			starts[key]++
			return key, nil
		})
		return err
	}
	for range 4 {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				key := int(next.Add(1))
				var both sync.WaitGroup
				for _, g := range guards {
					both.Go(func() {
						for end := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
							err := pay(g, key)
							if err == nil {
								return
							}
							failed.Add(1)
							if idempotency.InDoubt(err) || time.Now().After(end) {
								t.Errorf("key %d: %v", key, err)
								return
							}
						}
					})
				}
				both.Wait()
			}
		})
	}
	for range 3 {
		<-time.After(500 * time.Millisecond)
		m.kill()
		<-time.After(500 * time.Millisecond)
		m.start()
	}
	<-time.After(500 * time.Millisecond)
	close(stop)
	work.Wait()
	for key, n := range starts {
		if n != 1 {
			t.Errorf("key %d started %d times", key, n)
		}
	}
	t.Logf("%d keys, %d tries failed while etcd was away", len(starts), failed.Load())
	if len(starts) == 0 {
		t.Error("nothing was done")
	}
}
