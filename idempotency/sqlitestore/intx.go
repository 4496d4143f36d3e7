package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/status"
)

// InTx makes an effect exactly once: it writes the key of the call that ctx belongs to, and fn's answer, in the caller's own transaction, so that
// they are committed together with what fn does in tx, or not at all. If the key is there already, fn is not run and its first answer
// comes back. The same key with another request is refused. Rolling tx back, whoever does it, takes the record with it; the caller must do so
// when InTx fails.
//
//	err := inTransaction(ctx, db, func(tx *sql.Tx) (err error) {
//		rep, err = sqlitestore.InTx(ctx, tx, func() (*Receipt, error) { return pay(ctx, tx, req) })
//		return err
//	})
//
// A handler that uses it may run again when its first run is in doubt: name it in idempotency.Options.Rerun. The table is made by
// [MakeEffects]. Answers are kept as protobuf or JSON until [ForgetEffects].
func InTx[T any](ctx context.Context, tx *sql.Tx, fn func() (*T, error)) (*T, error) {
	key, request, ok := idempotency.Current(ctx)
	if !ok {
		return nil, status.Errorf(status.FailedPrecondition, "sqlitestore.InTx: the call has no idempotency key, or its server no idempotency.Guard")
	}
	n, err := affected(tx.ExecContext(ctx, query(`INSERT INTO hull_effects (name, print, made) VALUES (?, ?, NOW) ON CONFLICT (name) DO NOTHING`), key, request[:]))
	if err != nil {
		return nil, fmt.Errorf("sqlitestore.InTx: %w", err)
	}
	if n == 0 {
		return first[T](ctx, tx, key, request)
	}
	rep, err := fn()
	if err != nil {
		return nil, err
	}
	if rep == nil {
		return nil, errors.New("sqlitestore.InTx: the function returned neither an answer nor an error")
	}
	b, err := encode(rep)
	if err == nil {
		_, err = tx.ExecContext(ctx, query(`UPDATE hull_effects SET result = ? WHERE name = ?`), b, key)
	}
	if err != nil {
		return nil, fmt.Errorf("sqlitestore.InTx: keeping the answer: %w", err)
	}
	return rep, nil
}

// first returns the answer of the call that had the key first.
func first[T any](ctx context.Context, tx *sql.Tx, key string, request idempotency.Fingerprint) (*T, error) {
	var was, b []byte
	if err := tx.QueryRowContext(ctx, query(`SELECT print, result FROM hull_effects WHERE name = ?`), key).Scan(&was, &b); err != nil {
		return nil, fmt.Errorf("sqlitestore.InTx: reading the first answer: %w", err)
	}
	if string(was) != string(request[:]) {
		return nil, status.Errorf(status.InvalidArgument, "the idempotency key was used for another request: make a new key for each thing to be done")
	}
	rep := new(T)
	var err error
	if m, ok := any(rep).(proto.Message); ok {
		err = proto.Unmarshal(b, m)
	} else {
		err = json.Unmarshal(b, rep)
	}
	if err != nil {
		return nil, fmt.Errorf("sqlitestore.InTx: the first answer is no %T: %w", rep, err)
	}
	return rep, nil
}

func encode(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		b, err := proto.Marshal(m)
		if b == nil {
			b = []byte{} // not NULL
		}
		return b, err
	}
	return json.Marshal(v)
}

// MakeEffects makes the table of InTx if it is not there.
func MakeEffects(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, query(`CREATE TABLE IF NOT EXISTS hull_effects (name TEXT PRIMARY KEY, print BLOB NOT NULL, result BLOB, made BIGINT NOT NULL)`))
	if err != nil {
		return fmt.Errorf("sqlitestore: making the table of effects: %w", err)
	}
	return nil
}

// ForgetEffects removes what is older than age, after which its keys would have their effect again.
func ForgetEffects(ctx context.Context, db *sql.DB, age time.Duration) error {
	if _, err := db.ExecContext(ctx, query(`DELETE FROM hull_effects WHERE made <= NOW - ?`), age.Milliseconds()); err != nil {
		return fmt.Errorf("sqlitestore: forgetting effects: %w", err)
	}
	return nil
}
