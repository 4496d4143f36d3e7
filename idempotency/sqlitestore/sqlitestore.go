// Package sqlitestore keeps idempotency keys in a SQLite file that processes of one machine share, through database/sql, and writes a key's
// record in the same transaction as its effect ([InTx]). It brings no driver.
//
// A store has two tables, made by [New]: the keys, and the processes that say they live. Time is SQLite's own. Set a busy timeout in the
// driver's URL: claims wait for each other.
package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hull-go/hull/idempotency"
)

// query writes SQL: NOW is the clock in milliseconds since 1970.
func query(q string) string {
	return strings.ReplaceAll(q, "NOW", "CAST(unixepoch('subsec') * 1000 AS INTEGER)")
}

// Store is an idempotency.Store in a SQLite database. It is safe for concurrent use, also by many processes.
type Store struct {
	db                                        *sql.DB
	alive, sweepOwners, sweepKeys             string
	expire, insert, look, takeOver, end, free string
}

var _ idempotency.Store = (*Store)(nil)

// New returns a Store in db, and makes its tables if they are not there. db stays the caller's.
func New(ctx context.Context, db *sql.DB) (*Store, error) {
	for _, q := range []string{
		`CREATE TABLE IF NOT EXISTS hull_keys (name TEXT PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, print BLOB NOT NULL, result BLOB,
			expires BIGINT NOT NULL)`,
		`CREATE INDEX IF NOT EXISTS hull_keys_expires ON hull_keys (expires)`,
		`CREATE TABLE IF NOT EXISTS hull_owners (owner TEXT PRIMARY KEY, until BIGINT NOT NULL)`,
	} {
		if _, err := db.ExecContext(ctx, query(q)); err != nil {
			return nil, fmt.Errorf("sqlitestore: making the tables: %w", err)
		}
	}
	const ended = `expires <= NOW AND (result IS NOT NULL OR NOT EXISTS (SELECT 1 FROM hull_owners o WHERE o.owner = hull_keys.owner AND o.until > NOW))`
	return &Store{
		db: db,
		alive: query(`INSERT INTO hull_owners (owner, until) VALUES (?, NOW + ?)
			ON CONFLICT (owner) DO UPDATE SET until = excluded.until`),
		sweepOwners: query(`DELETE FROM hull_owners WHERE until <= NOW`),
		sweepKeys:   query(`DELETE FROM hull_keys WHERE ` + ended),
		expire:      query(`DELETE FROM hull_keys WHERE name = ? AND ` + ended),
		insert:      query(`INSERT INTO hull_keys (name, id, owner, print, expires) VALUES (?, ?, ?, ?, NOW + ?) ON CONFLICT (name) DO NOTHING`),
		look: query(`SELECT id, owner, print, result, EXISTS (SELECT 1 FROM hull_owners o WHERE o.owner = hull_keys.owner AND o.until > NOW)
			FROM hull_keys WHERE name = ?`),
		takeOver: query(`UPDATE hull_keys SET id = ?, owner = ?, print = ?, expires = NOW + ? WHERE name = ? AND id = ? AND result IS NULL`),
		end:      query(`UPDATE hull_keys SET result = ?, expires = NOW + ? WHERE name = ? AND id = ?`),
		free:     query(`DELETE FROM hull_keys WHERE name = ? AND id = ? AND result IS NULL`),
	}, nil
}

// Alive implements idempotency.Store. It also removes what has expired.
func (s *Store) Alive(ctx context.Context, owner string, ttl time.Duration) error {
	if _, err := s.db.ExecContext(ctx, s.alive, owner, ttl.Milliseconds()); err != nil {
		return fmt.Errorf("sqlitestore: %w", err)
	}
	for _, q := range []string{s.sweepKeys, s.sweepOwners} {
		if _, err := s.db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("sqlitestore: removing what has expired: %w", err)
		}
	}
	return nil
}

// Claim implements idempotency.Store.
func (s *Store) Claim(ctx context.Context, c idempotency.Claim) (rec idempotency.Record, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return rec, fmt.Errorf("sqlitestore: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	if rec, err = s.claim(ctx, tx, c); err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return idempotency.Record{}, fmt.Errorf("sqlitestore: claiming a key: %w", err)
	}
	return rec, nil
}

// claim begins with a write, so that SQLite's claims wait for each other and none finds the file locked half-way.
func (s *Store) claim(ctx context.Context, tx *sql.Tx, c idempotency.Claim) (rec idempotency.Record, err error) {
	if _, err = tx.ExecContext(ctx, s.alive, c.Owner, c.TTL.Milliseconds()); err != nil {
		return rec, err
	}
	if _, err = tx.ExecContext(ctx, s.expire, c.Key); err != nil {
		return rec, err
	}
	mine := idempotency.Record{State: idempotency.Claimed, ID: c.ID, Owner: c.Owner, Fingerprint: c.Fingerprint}
	switch n, err := affected(tx.ExecContext(ctx, s.insert, c.Key, c.ID, c.Owner, c.Fingerprint[:], c.Keep.Milliseconds())); {
	case err != nil:
		return rec, err
	case n > 0:
		return mine, nil
	}
	if c.Over != "" {
		switch n, err := affected(tx.ExecContext(ctx, s.takeOver, c.ID, c.Owner, c.Fingerprint[:], c.Keep.Milliseconds(), c.Key, c.Over)); {
		case err != nil:
			return rec, err
		case n > 0:
			return mine, nil
		}
	}
	var request []byte
	var alive bool
	if err = tx.QueryRowContext(ctx, s.look, c.Key).Scan(&rec.ID, &rec.Owner, &request, &rec.Result, &alive); errors.Is(err, sql.ErrNoRows) {
		return rec, errors.New("the key was set free meanwhile: try again") // between two statements, where the database allows that
	} else if err != nil {
		return rec, err
	}
	if copy(rec.Fingerprint[:], request) != len(rec.Fingerprint) {
		return rec, errors.New("the table hull_keys holds a row that is not Hull's")
	}
	switch {
	case rec.Result != nil:
		rec.State = idempotency.Done
	case rec.ID == c.ID:
		rec.State = idempotency.Claimed
	case alive:
		rec.State = idempotency.Running
	default:
		rec.State = idempotency.Doubtful
	}
	return rec, nil
}

// Finish implements idempotency.Store.
func (s *Store) Finish(ctx context.Context, key, claim string, result []byte, keep time.Duration) error {
	return s.change(ctx, s.end, result, keep.Milliseconds(), key, claim)
}

// Release implements idempotency.Store.
func (s *Store) Release(ctx context.Context, key, claim string) error {
	return s.change(ctx, s.free, key, claim)
}

func (s *Store) change(ctx context.Context, q string, args ...any) error {
	n, err := affected(s.db.ExecContext(ctx, q, args...))
	if err != nil {
		return fmt.Errorf("sqlitestore: %w", err)
	}
	if n == 0 {
		return idempotency.ErrLost
	}
	return nil
}

func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
