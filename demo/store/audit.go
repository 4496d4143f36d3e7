package store

import (
	"context"
	"fmt"
)

// Audit is what a room holds, for those who check afterwards that nothing was lost or done twice.
type Audit struct {
	// IDs are the ids of the room's messages.
	IDs map[string]bool
	// Texts counts how often each text was stored.
	Texts map[string]int
}

// Audit reads a whole room.
func (s *Store) Audit(ctx context.Context, room string) (Audit, error) {
	a := Audit{IDs: map[string]bool{}, Texts: map[string]int{}}
	rows, err := s.read.QueryContext(ctx, `SELECT id, text FROM messages WHERE room = ?`, room)
	if err != nil {
		return a, wrap("audit", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, text string
		if err := rows.Scan(&id, &text); err != nil {
			return a, wrap("audit", err)
		}
		a.IDs[id] = true
		a.Texts[text]++
	}
	return a, wrap("audit", rows.Err())
}

// Pragmas returns the settings that matter, for the test that proves them.
func (s *Store) Pragmas(ctx context.Context) (map[string]string, error) {
	got := map[string]string{}
	for _, p := range []string{"journal_mode", "synchronous", "busy_timeout"} {
		var v string
		if err := s.write.QueryRowContext(ctx, "PRAGMA "+p).Scan(&v); err != nil {
			return nil, fmt.Errorf("pragma %s: %w", p, err)
		}
		got[p] = v
	}
	return got, nil
}
