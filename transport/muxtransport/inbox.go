package muxtransport

import "encoding/binary"

// inbox holds what has arrived of a stream. The reader puts messages in, and Recv takes all that there are at once: the two meet once
// for many messages. Small messages lie one after the other in pages, each behind a record that says how long it is, so that none
// needs memory of its own.
type inbox struct {
	pages []*page
	apart []message // those too large for a page; their records say so
	n     int       // messages
	cost  int64     // of all of them
}

// message is a message that does not lie in a page, and what it takes from the windows.
type message struct {
	b      []byte
	cost   int64
	packed bool // b is compressed
}

// page is a piece of memory for small messages: one of the stream's own, which grows with what is in it, so that a stream of few small
// messages keeps little, or a larger one from the pool of all.
type page struct {
	b      []byte
	shared bool
}

const (
	ownPage    = 4 << 10
	sharedPage = 32 << 10
	// maxInline is how large a message may be that lies in a page.
	maxInline = keepScratch

	// A record is the length of a message, shifted, and these.
	recordLen    = 4
	recordShift  = 2
	recordPacked = 1
	recordApart  = 2
)

// appendRecord puts a record and content into the last page, or a new one. mu is held.
func (s *stream) appendRecord(record uint32, content []byte) {
	n := recordLen + len(content)
	var p *page
	if k := len(s.in.pages); k > 0 {
		p = s.in.pages[k-1]
		if len(p.b)+n > max(cap(p.b), ownPage) {
			p = nil
		}
	}
	if p == nil {
		p = s.newPage(n)
		s.in.pages = append(s.in.pages, p)
	}
	p.b = append(binary.LittleEndian.AppendUint32(p.b, record), content...)
	s.in.n++
}

// newPage returns a page for n bytes or more.
func (s *stream) newPage(n int) *page {
	if n > ownPage || len(s.in.pages) > 0 {
		if p, ok := s.l.sh.pages.Get().(*page); ok {
			return p
		}
		return &page{b: make([]byte, 0, sharedPage), shared: true}
	}
	p := s.spare
	if s.spare = nil; p == nil {
		p = new(page)
	}
	return p
}

// put takes in a small message. mu is held.
func (s *stream) put(content []byte, cost int64, packed bool) {
	record := uint32(len(content)) << recordShift
	if packed {
		record |= recordPacked
	}
	s.appendRecord(record, content)
	s.in.cost += cost
}

// putApart takes in a message with memory of its own. mu is held.
func (s *stream) putApart(m message) {
	s.appendRecord(recordApart, nil)
	s.in.apart = append(s.in.apart, m)
	s.in.cost += m.cost
}

// batch is an inbox whose messages Recv hands out one after the other. It belongs to the goroutine that receives.
type batch struct {
	inbox
	page, pos, next int   // where the next message is: the page, the place in it, and which of those apart
	used            int64 // the cost of what has been handed out, as far as the windows have not been told
}

// take returns the next message, of which there must be one, and whether its memory is its own; what lies in a page is valid until the
// next call.
func (s *stream) take() (m message, apart bool) {
	b := &s.batch
	p := b.pages[b.page]
	if b.pos == len(p.b) {
		b.page++
		b.pos = 0
		p = b.pages[b.page]
	}
	record := binary.LittleEndian.Uint32(p.b[b.pos:])
	b.pos += recordLen
	b.n--
	if record&recordApart != 0 {
		m = b.apart[b.next]
		b.apart[b.next] = message{}
		b.next++
		return m, true
	}
	size := int(record >> recordShift)
	m = message{b: p.b[b.pos : b.pos+size : b.pos+size], cost: int64(size) + frameCost, packed: record&recordPacked != 0}
	b.pos += size
	return m, false
}

// recycle lets go of what has been handed out of a batch, and of the rest. It returns the page that the stream may use again.
func (b *batch) recycle(sh *shared) (own *page) {
	own = b.inbox.recycle(sh)
	b.page, b.pos, b.next, b.used = 0, 0, 0, 0
	return own
}

func (in *inbox) recycle(sh *shared) (own *page) {
	for i, p := range in.pages {
		p.b = p.b[:0]
		if p.shared {
			sh.pages.Put(p)
		} else {
			own = p
		}
		in.pages[i] = nil
	}
	clear(in.apart)
	*in = inbox{pages: in.pages[:0], apart: in.apart[:0]}
	return own
}
