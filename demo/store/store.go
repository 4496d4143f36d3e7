package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"modernc.org/sqlite" // registers the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hull-go/hull/demo/board"
)

// Errors of a Store; match them with errors.Is.
var (
	// ErrConflict: another message is stored under the same id.
	ErrConflict = errors.New("the id is taken by another message: make a new id")
	// ErrNotFound: there is no such message.
	ErrNotFound = errors.New("no such message")
	// ErrBusy: other processes kept the file locked for too long; nothing was stored.
	ErrBusy = errors.New("the database is busy")
)

// Store is an open message file. It is safe for concurrent use, also by several processes.
type Store struct {
	read, write *sql.DB
	// turn holds one token: who has it may write. It keeps this process's writers from spinning on SQLite's lock, and lets
	// Hold keep them off it.
	turn chan struct{}
}

const schema = `
CREATE TABLE IF NOT EXISTS messages (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	id      TEXT NOT NULL UNIQUE,
	room    TEXT NOT NULL,
	author  TEXT NOT NULL,
	text    TEXT NOT NULL,
	created INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS messages_by_room ON messages (room, seq);`

// Open opens the message file, and makes it if there is none; its directory must exist. busy bounds how long a write waits
// for writers in other processes; 0 = 2 s.
func Open(ctx context.Context, path string, busy time.Duration) (*Store, error) {
	if busy == 0 {
		busy = 2 * time.Second
	}
	q := url.Values{}
	// busy_timeout comes first: the pragmas after it may have to wait themselves.
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()))
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "synchronous(OFF)")
	q.Set("_txlock", "immediate")
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()

	s := &Store{turn: make(chan struct{}, 1)}
	var err error
	if s.write, err = sql.Open("sqlite", dsn); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn); err != nil {
		s.write.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.read.SetMaxOpenConns(4)
	s.read.SetMaxIdleConns(4)
	if err := s.create(ctx, busy); err != nil {
		s.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

// create makes the tables. Turning on WAL in a new file does not wait for other processes that do the same, whatever
// busy_timeout says, so it is tried again for a while.
func (s *Store) create(ctx context.Context, busy time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, busy)
	defer cancel()
	for {
		_, err := s.write.ExecContext(ctx, schema)
		if err == nil || !isBusy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Close closes the file.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// Save stores a message. Saving it again changes nothing and returns what is stored; ErrConflict means that the id belongs
// to a message that says something else.
func (s *Store) Save(ctx context.Context, m board.Message) (board.Message, error) {
	m.Created = time.Now().UnixMilli()
	var stored int64
	err := s.exclusive(ctx, func() error {
		res, err := s.write.ExecContext(ctx,
			`INSERT INTO messages (id, room, author, text, created) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
			m.ID, m.Room, m.Author, m.Text, m.Created)
		if err != nil {
			return err
		}
		stored, err = res.RowsAffected()
		return err
	})
	if err != nil {
		return board.Message{}, wrap("save", err)
	}
	if stored == 1 {
		return m, nil
	}
	old, err := s.Get(ctx, m.ID)
	if err != nil {
		return board.Message{}, err
	}
	if !old.Same(&m) {
		return board.Message{}, ErrConflict
	}
	return old, nil
}

// Get returns one message, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (board.Message, error) {
	var m board.Message
	err := s.read.QueryRowContext(ctx, `SELECT id, room, author, text, created FROM messages WHERE id = ?`, id).
		Scan(&m.ID, &m.Room, &m.Author, &m.Text, &m.Created)
	if errors.Is(err, sql.ErrNoRows) {
		return m, ErrNotFound
	}
	return m, wrap("get", err)
}

// List returns the newest messages of a room, the newest first.
func (s *Store) List(ctx context.Context, room string, limit int) ([]board.Message, error) {
	rows, err := s.read.QueryContext(ctx,
		`SELECT id, room, author, text, created FROM messages WHERE room = ? ORDER BY seq DESC LIMIT ?`, room, limit)
	if err != nil {
		return nil, wrap("list", err)
	}
	defer rows.Close()
	list := make([]board.Message, 0, limit)
	for rows.Next() {
		var m board.Message
		if err := rows.Scan(&m.ID, &m.Room, &m.Author, &m.Text, &m.Created); err != nil {
			return nil, wrap("list", err)
		}
		list = append(list, m)
	}
	return list, wrap("list", rows.Err())
}

// Prune deletes all but the newest messages of a room.
func (s *Store) Prune(ctx context.Context, room string, keep int) error {
	return wrap("prune", s.exclusive(ctx, func() error {
		_, err := s.write.ExecContext(ctx, `DELETE FROM messages WHERE room = ?1 AND seq <=
			(SELECT seq FROM messages WHERE room = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)`, room, keep)
		return err
	}))
}

// Hold waits for the write under way, then keeps this process out of SQLite's lock for d. A process that is about to be
// frozen calls it first: frozen inside a transaction it would lock out every other node, and the demo would show a fault of
// the shared file, not of a node.
func (s *Store) Hold(ctx context.Context, d time.Duration) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	time.AfterFunc(d, func() { <-s.turn })
	return nil
}

// exclusive runs f while no other writer of this process runs.
func (s *Store) exclusive(ctx context.Context, f func() error) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	return f()
}

func wrap(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case isBusy(err):
		return fmt.Errorf("%s: %w (%w)", what, ErrBusy, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func isBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
}
