package sqlitestore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	_ "modernc.org/sqlite"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/sqlitestore"
	"github.com/hull-go/hull/idempotency/storetest"
	"github.com/hull-go/hull/status"
)

// open opens the same file twice, as two processes do.
func open(t *testing.T) (a, b *sql.DB) {
	t.Helper()
	url := "file:" + filepath.Join(t.TempDir(), "keys.db") + "?_pragma=busy_timeout(60000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)"
	dbs := make([]*sql.DB, 2)
	for i := range dbs {
		db, err := sql.Open("sqlite", url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		dbs[i] = db
	}
	return dbs[0], dbs[1]
}

func TestStore(t *testing.T) {
	of := map[idempotency.Store]*sql.DB{}
	exec := func(t *testing.T, s idempotency.Store, q, arg string) {
		t.Helper()
		r, err := of[s].ExecContext(t.Context(), q, arg)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.RowsAffected(); n != 1 || err != nil {
			t.Fatalf("%d rows, %v", n, err)
		}
	}
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T) (_, _ idempotency.Store) {
			var stores []idempotency.Store
			da, db := open(t)
			for _, d := range []*sql.DB{da, db} {
				s, err := sqlitestore.New(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				of[s] = d
				stores = append(stores, s)
			}
			return stores[0], stores[1]
		},
		Die: func(t *testing.T, s idempotency.Store, owner string) {
			exec(t, s, `UPDATE hull_owners SET until = 1 WHERE owner = ?`, owner)
		},
		Pass: func(t *testing.T, s idempotency.Store, key string) {
			exec(t, s, `UPDATE hull_keys SET expires = 1 WHERE name = ?`, key)
		},
	})
}

type payment struct{ Amount int }
type receipt struct{ Number int64 }

// shop pays into a table: once per key, whatever happens.
type shop struct {
	guard *idempotency.Guard
	db    *sql.DB
}

func newShop(t *testing.T, db *sql.DB) *shop {
	t.Helper()
	g, err := idempotency.New(idempotency.Options{Rerun: func(string) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	if err := sqlitestore.MakeEffects(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return &shop{g, db}
}

// pay serves one call; spoil is what happens after the effect and before its commit.
func (s *shop) pay(ctx context.Context, key string, amount int, spoil func() error) (*receipt, error) {
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(idempotency.Header, key))
	rep, err := s.guard.Unary(ctx, &payment{amount}, &grpc.UnaryServerInfo{FullMethod: "/shop/Pay"}, func(ctx context.Context, req any) (any, error) {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return nil, err
		}
		defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
		rep, err := sqlitestore.InTx(ctx, tx, func() (*receipt, error) {
			r, err := tx.ExecContext(ctx, `INSERT INTO payments (amount) VALUES (?)`, req.(*payment).Amount)
			if err != nil {
				return nil, err
			}
			n, err := r.LastInsertId()
			return &receipt{n}, err
		})
		if err == nil && spoil != nil {
			err = spoil()
		}
		if err == nil {
			err = tx.Commit()
		}
		if err != nil {
			return nil, &status.Error{Code: status.Unavailable, Message: err.Error(), Fate: status.NotSent} // rolled back: nothing was done
		}
		return rep, nil
	})
	if err != nil {
		return nil, err
	}
	r, ok := rep.(*receipt)
	if !ok {
		return nil, fmt.Errorf("a %T", rep)
	}
	return r, nil
}

// TestInTx: two processes that know nothing of each other, failures before the commit and duplicates at the same time: one payment a key.
func TestInTx(t *testing.T) {
	da, db := open(t)
	if _, err := da.ExecContext(t.Context(), `CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)`); err != nil {
		t.Fatal(err)
	}
	shops := []*shop{newShop(t, da), newShop(t, db)}
	if _, err := shops[0].pay(t.Context(), "first", 1, func() error { return errors.New("power cut") }); status.FateOf(err) != status.NotSent {
		t.Fatal(err)
	}
	const keys = 10
	var mu sync.Mutex
	got := map[string]map[int64]bool{}
	var wg sync.WaitGroup
	for i := range keys {
		key := fmt.Sprintf("key %d", i)
		mu.Lock()
		got[key] = map[int64]bool{}
		mu.Unlock()
		for _, s := range shops {
			wg.Go(func() {
				r, err := s.pay(t.Context(), key, i, nil)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("%s: %v", key, err)
				} else {
					got[key][r.Number] = true
				}
			})
		}
	}
	wg.Wait()
	var n int
	if err := da.QueryRowContext(t.Context(), `SELECT count(*) FROM payments`).Scan(&n); err != nil || n != keys {
		t.Errorf("%d payments of %d, %v", n, keys, err)
	}
	for key, numbers := range got {
		if len(numbers) != 1 {
			t.Errorf("%s got the receipts %v", key, numbers)
		}
	}
	// The other shop has the key in its database only.
	if _, err := shops[0].pay(t.Context(), "amounts", 5, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := shops[1].pay(t.Context(), "amounts", 6, nil); status.CodeOf(err) != status.Unavailable && status.CodeOf(err) != status.InvalidArgument {
		t.Errorf("another amount under the same key: %v", err)
	}
	if err := sqlitestore.ForgetEffects(t.Context(), da, 0); err != nil {
		t.Fatal(err)
	}
	if err := da.QueryRowContext(t.Context(), `SELECT count(*) FROM hull_effects`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d effects left, %v", n, err)
	}
}

func TestInTxNeedsAKey(t *testing.T) {
	da, _ := open(t)
	tx, err := da.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	_, err = sqlitestore.InTx(t.Context(), tx, func() (*receipt, error) { t.Error("it ran"); return nil, nil })
	if status.CodeOf(err) != status.FailedPrecondition {
		t.Error(err)
	}
}
