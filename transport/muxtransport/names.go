package muxtransport

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/hull-go/hull/transport"
)

// The keys of metadata are the same in call after call. A connection remembers those that it has seen, in each direction, and
// says the others' numbers. What is remembered follows from what is sent alone, so both sides agree without a word: each key
// that comes in letters, as long as there is room and it is not longer than maxNameKey.
const (
	// maxNames is how many keys this side remembers of what it receives: one byte tells them apart.
	maxNames = 64
	// maxNamesCeiling bounds what a peer can make this side remember of what it sends.
	maxNamesCeiling = 1024
	maxNameKey      = 64
)

// sentNames are the keys that the peer remembers. The link's mutex guards it. nil = the peer remembers nothing.
type sentNames struct {
	limit   int
	count   int // remembered by the peer; at least as many as there are numbers
	numbers map[string]int
}

// append appends a key, in letters or as its number.
func (s *sentNames) append(b []byte, key string) []byte {
	if n, ok := s.numbers[key]; ok {
		return binary.AppendUvarint(b, uint64(n)<<1|1)
	}
	if s.count < s.limit && len(key) <= maxNameKey {
		if s.numbers == nil {
			s.numbers = make(map[string]int)
		}
		s.numbers[strings.Clone(key)] = s.count // the key may be a part of something large
		s.count++
	}
	b = binary.AppendUvarint(b, uint64(len(key))<<1)
	return append(b, key...)
}

// recvNames are the keys that have been received. It belongs to the reader's role. nil = keys are always in letters.
type recvNames struct {
	limit int
	names []string
}

// inNames returns what a head that begins with payload is read with; nil if it has no metadata, none of these flags, or if that
// comes with all keys in letters. Whoever calls it has the reader's role.
func (l *link) inNames(payload []byte, flags byte) *recvNames {
	if len(payload) == 0 || payload[0]&flags == 0 || l.peer.names == 0 {
		return nil
	}
	if l.namesIn == nil {
		l.namesIn = &recvNames{limit: maxNames}
	}
	return l.namesIn
}

// outNames returns what metadata is written with, nil if that is to be with all keys in letters. mu is held.
func (l *link) outNames() *sentNames {
	if l.namesOut == nil && l.peer.names != 0 {
		l.namesOut = &sentNames{limit: int(l.peer.names)}
	}
	return l.namesOut
}

// next reads a key: in letters, or the number of one that is remembered. One that is new is remembered if first says so, which
// must be once for each that arrives.
func (r *recvNames) next(c *cursor, first bool) (letters []byte, name string) {
	v := c.uvarint()
	if v&1 == 1 {
		if v >>= 1; v >= uint64(len(r.names)) {
			c.fail()
			return nil, ""
		}
		return nil, r.names[v]
	}
	if v >>= 1; v > uint64(len(c.rest())) {
		c.fail()
		return nil, ""
	}
	letters = c.take(int(v))
	if first && len(r.names) < r.limit && len(letters) <= maxNameKey {
		r.names = append(r.names, string(letters))
	}
	return letters, ""
}

// appendMetadata appends m without its field at place skip, counted from 1.
func appendMetadata(b []byte, m transport.Metadata, names *sentNames, skip int) []byte {
	at := len(b)
	b = append(b, 0)
	for i := range m {
		if i+1 == skip {
			continue
		}
		if names == nil {
			b = appendBytes(b, m[i].Key)
		} else {
			b = names.append(b, m[i].Key)
		}
		b = appendBytes(b, m[i].Value)
	}
	// The size is known now; mostly it fits the byte that was left for it.
	size := len(b) - at - 1
	if more := uvarintLen(size) - 1; more > 0 {
		b = append(b, 0, 0, 0)[:len(b)+more]
		copy(b[at+1+more:], b[at+1:at+1+size])
	}
	binary.PutUvarint(b[at:], uint64(size))
	return b
}

// metadataSize is the size of m with all keys in letters, without its own length.
func metadataSize(m transport.Metadata) int {
	n := 0
	for i := range m {
		n += fieldSize(len(m[i].Key), len(m[i].Value))
	}
	return n
}

func fieldSize(key, value int) int { return uvarintLen(key) + key + uvarintLen(value) + value }

func uvarintLen(n int) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

// headerTooLargeError is a limit breached, not a malformed frame: only its own call fails.
type headerTooLargeError struct{ size, limit int }

func (e headerTooLargeError) Error() string {
	return fmt.Sprintf("metadata of %d bytes is over the limit of %d; send less, or raise MaxHeader", e.size, e.limit)
}

// parseMetadata reads what appendMetadata wrote. present says that there is a block; trace is nil or a trace context, which
// becomes the first field.
func parseMetadata(c *cursor, limit int, names *recvNames, present bool, trace []byte) (transport.Metadata, error) {
	var block []byte
	if present {
		block = c.bytes()
	}
	if c.bad {
		return nil, errMalformed
	}
	in := cursor{in: block}
	n, size := 0, 0
	if trace != nil {
		n, size = 1, fieldSize(len(traceKey), traceText)
	}
	for ; len(in.rest()) > 0; n++ {
		var letters []byte
		name := ""
		if names == nil {
			letters = in.bytes()
		} else {
			letters, name = names.next(&in, true)
		}
		size += fieldSize(len(letters)+len(name), len(in.bytes()))
	}
	if in.bad {
		return nil, errMalformed
	}
	if size > limit {
		return nil, headerTooLargeError{size, limit}
	}
	m := make(transport.Metadata, n)
	i := 0
	if trace != nil {
		m[0] = transport.Field{Key: traceKey, Value: traceString(trace)}
		i = 1
	}
	// One string for all of them: entries are kept or dropped together.
	all := string(block)
	in = cursor{in: block}
	cut := func(v []byte) string {
		end := in.at
		return all[end-len(v) : end]
	}
	for ; i < len(m); i++ {
		if names == nil {
			m[i].Key = cut(in.bytes())
		} else if letters, name := names.next(&in, false); letters != nil {
			m[i].Key = cut(letters)
		} else {
			m[i].Key = name
		}
		m[i].Value = cut(in.bytes())
	}
	return m, nil
}
