package board

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Service is the board's name in discovery.
const Service = "board"

// The methods of the board service.
const (
	// MethodList reads messages: side-effect free.
	MethodList = "board.Board/List"
	// MethodSave stores a message whose id the caller made: idempotent.
	MethodSave = "board.Board/Save"
	// MethodPost stores a message under an id that the service makes: not idempotent, doing it twice stores two.
	MethodPost = "board.Board/Post"
)

// The rooms of the demo.
const (
	// Wall is the room that people write to.
	Wall = "wall"
	// LoadProtected and LoadUnprotected are what the built-in load writes to. They are kept short.
	LoadProtected   = "load-protected"
	LoadUnprotected = "load-unprotected"
	// Posts is what is added to the name of a room of the load for its messages that are not idempotent.
	Posts = "-posts"
)

// Limits on what a message may hold, in characters, and on what List returns, in messages.
const (
	MaxID     = 64
	MaxAuthor = 40
	MaxText   = 500
	MaxList   = 200
	// DefaultList is how many messages List returns when it is not told.
	DefaultList = 20
)

// Message is one note on the board.
type Message struct {
	// ID names the message for ever. Saving under an ID that is there changes nothing.
	ID string `json:"id"`
	// Room keeps kinds of messages apart; empty = Wall.
	Room string `json:"room,omitempty"`
	// Author and Text are what people see.
	Author string `json:"author"`
	Text   string `json:"text"`
	// Created is when the message was first stored, in milliseconds since 1970; the service sets it.
	Created int64 `json:"created,omitempty"`
}

// Validate returns what is wrong with the message, in words for the person who wrote it, or nil. It fills in the default
// room and author.
func (m *Message) Validate() error {
	if m.Room == "" {
		m.Room = Wall
	}
	if m.Author = strings.TrimSpace(m.Author); m.Author == "" {
		m.Author = "anonymous"
	}
	if err := validID("id", m.ID); err != nil {
		return err
	}
	if err := validID("room", m.Room); err != nil {
		return err
	}
	if err := validText("author", m.Author, MaxAuthor, false); err != nil {
		return err
	}
	if strings.TrimSpace(m.Text) == "" {
		return fmt.Errorf("text is empty: write something")
	}
	return validText("text", m.Text, MaxText, true)
}

// Same reports whether two messages say the same, whenever they were stored.
func (m *Message) Same(n *Message) bool {
	return m.ID == n.ID && m.Room == n.Room && m.Author == n.Author && m.Text == n.Text
}

func validID(what, s string) error {
	if s == "" {
		return fmt.Errorf("%s is empty: give 1 to %d letters, digits, '-', '_' or '.'", what, MaxID)
	}
	if len(s) > MaxID {
		return fmt.Errorf("%s has %d characters: give at most %d", what, len(s), MaxID)
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.') {
			return fmt.Errorf("%s %q holds %q: use letters, digits, '-', '_' and '.' only", what, s, r)
		}
	}
	return nil
}

func validText(what, s string, most int, lines bool) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not valid UTF-8", what)
	}
	if n := utf8.RuneCountInString(s); n > most {
		return fmt.Errorf("%s has %d characters: write at most %d", what, n, most)
	}
	for _, r := range s {
		if unicode.IsControl(r) && !(lines && (r == '\n' || r == '\t')) {
			return fmt.Errorf("%s holds the control character %U: leave it out", what, r)
		}
	}
	return nil
}

// sum adds the message to a checksum.
func (m *Message) sum(crc uint32) uint32 {
	for _, s := range []string{m.ID, m.Room, m.Author, m.Text} {
		// The length keeps "ab"+"c" and "a"+"bc" apart.
		crc = crc32.Update(crc, crc32.IEEETable, binary.AppendUvarint(nil, uint64(len(s))))
		crc = crc32.Update(crc, crc32.IEEETable, []byte(s))
	}
	return crc32.Update(crc, crc32.IEEETable, binary.AppendVarint(nil, m.Created))
}
