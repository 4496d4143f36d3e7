package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hull-go/hull/idempotency"
)

// Mem is an idempotency.Store in memory, for tests: its clock is time.Now, and it can fail.
type Mem struct {
	mu     sync.Mutex
	keys   map[string]*row
	owners map[string]time.Time
	rnd    *rand.Rand
	fail   float64
}

type row struct {
	claim   idempotency.Claim
	result  []byte
	expires time.Time
}

// ErrFault is what a Mem fails with.
var ErrFault = errors.New("storetest: the store fails")

// NewMem returns an empty store.
func NewMem() *Mem { return &Mem{keys: map[string]*row{}, owners: map[string]time.Time{}} }

// Fail makes the store fail that share of what it is asked from now on; half of it after it has been done, so that only the answer
// is lost.
func (m *Mem) Fail(share float64, rnd *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail, m.rnd = share, rnd
}

// Die makes an owner dead, as if its TTL had passed.
func (m *Mem) Die(owner string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.owners, owner)
}

// Pass makes a key expire, as if its time had passed.
func (m *Mem) Pass(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[key].expires = time.Now()
}

// Owner returns who has a key.
func (m *Mem) Owner(key string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.keys[key]; r != nil {
		return r.claim.Owner
	}
	return ""
}

// do does something, or fails.
func (m *Mem) do(ctx context.Context, what func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if m.fail > 0 && m.rnd.Float64() < m.fail {
		if m.rnd.IntN(2) == 0 {
			_ = what()
		}
		return ErrFault
	}
	return what()
}

func (m *Mem) lives(owner string) bool { return time.Now().Before(m.owners[owner]) }

// Alive implements idempotency.Store.
func (m *Mem) Alive(ctx context.Context, owner string, ttl time.Duration) error {
	return m.do(ctx, func() error {
		m.owners[owner] = time.Now().Add(ttl)
		return nil
	})
}

// Claim implements idempotency.Store.
func (m *Mem) Claim(ctx context.Context, c idempotency.Claim) (rec idempotency.Record, err error) {
	err = m.do(ctx, func() error {
		m.owners[c.Owner] = time.Now().Add(c.TTL)
		r := m.keys[c.Key]
		if r != nil && !time.Now().Before(r.expires) && (r.result != nil || !m.lives(r.claim.Owner)) {
			r = nil
		}
		if r == nil || r.result == nil && c.Over != "" && r.claim.ID == c.Over {
			r = &row{claim: c, expires: time.Now().Add(c.Keep)}
			m.keys[c.Key] = r
		}
		rec = idempotency.Record{ID: r.claim.ID, Owner: r.claim.Owner, Fingerprint: r.claim.Fingerprint, Result: slices.Clone(r.result)}
		switch {
		case r.result != nil:
			rec.State = idempotency.Done
		case r.claim.ID == c.ID:
			rec.State = idempotency.Claimed
		case m.lives(r.claim.Owner):
			rec.State = idempotency.Running
		default:
			rec.State = idempotency.Doubtful
		}
		return nil
	})
	return rec, err
}

// Finish implements idempotency.Store.
func (m *Mem) Finish(ctx context.Context, key, claim string, result []byte, keep time.Duration) error {
	return m.do(ctx, func() error {
		r := m.keys[key]
		if r == nil || r.claim.ID != claim {
			return idempotency.ErrLost
		}
		r.result, r.expires = slices.Clone(result), time.Now().Add(keep)
		return nil
	})
}

// Release implements idempotency.Store.
func (m *Mem) Release(ctx context.Context, key, claim string) error {
	return m.do(ctx, func() error {
		r := m.keys[key]
		if r == nil || r.claim.ID != claim || r.result != nil {
			return idempotency.ErrLost
		}
		delete(m.keys, key)
		return nil
	})
}
