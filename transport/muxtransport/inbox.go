package muxtransport

import "encoding/binary"

// inbox holds what has arrived of a stream. The reader puts messages in, and Recv takes all that there are at once: the two meet once
// for many messages. Small messages lie one after the other in pages, as the frames that they came in, so that none needs memory of its
// own, and many that came in one go are copied in one.
type inbox struct {
	pages []*page
	apart []message // those too large for a page; a frame of typeApart stands in their place
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
	// typeApart is no type that the other side can send.
	typeApart = 0
)

// append puts a frame, or many, into the last page, or a new one. mu is held.
func (s *stream) append(frames []byte) {
	var p *page
	if k := len(s.in.pages); k > 0 && len(frames) <= s.in.pages[k-1].room() {
		p = s.in.pages[k-1]
	} else {
		p = s.newPage(len(frames))
		s.in.pages = append(s.in.pages, p)
	}
	p.b = append(p.b, frames...)
}

func (p *page) room() int { return max(cap(p.b), ownPage) - len(p.b) }

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

// put takes in as many messages as it can, of the small ones of this stream that what has been read begins with, but no more than most.
// It returns how many, and of how many bytes. mu is held. The windows are the caller's business; cost is what they are to take.
func (s *stream) put(read []byte, most int) (messages, size int, cost int64) {
	limit := min(s.limit, maxInline) + headerLen
	begin, room := 0, 0
	if k := len(s.in.pages); k > 0 {
		room = s.in.pages[k-1].room()
	}
	for messages < most && len(read)-size >= headerLen {
		h := binary.LittleEndian.Uint64(read[size:])
		n := headerLen + int(h&0xffffff)
		if uint32(h>>32) != s.id || byte(h>>24) != typeData || n > limit || n > len(read)-size {
			break
		}
		if size-begin+n > room { // frames do not straddle pages
			if size > begin {
				s.append(read[begin:size])
				begin = size
			}
			if room = sharedPage; len(s.in.pages) == 0 {
				room = ownPage
			}
			if n > room {
				room = sharedPage
			}
		}
		size += n
		messages++
	}
	if size > begin {
		s.append(read[begin:size])
	}
	cost = int64(size) + int64(messages)*(frameCost-headerLen)
	s.in.n += messages
	s.in.cost += cost
	return messages, size, cost
}

// putOne takes in a small message. mu is held.
func (s *stream) putOne(f frame, cost int64) {
	var b [headerLen]byte
	typ := byte(typeData)
	if f.packed {
		typ |= flagPacked
	}
	putHeader(b[:], len(f.payload), typ, s.id)
	n := headerLen + len(f.payload)
	if k := len(s.in.pages); k == 0 || n > s.in.pages[k-1].room() {
		s.in.pages = append(s.in.pages, s.newPage(n))
	}
	p := s.in.pages[len(s.in.pages)-1]
	p.b = append(append(p.b, b[:]...), f.payload...)
	s.in.n++
	s.in.cost += cost
}

// putApart takes in a message with memory of its own. mu is held.
func (s *stream) putApart(m message) {
	var b [headerLen]byte
	putHeader(b[:], 0, typeApart, s.id)
	s.append(b[:])
	s.in.apart = append(s.in.apart, m)
	s.in.n++
	s.in.cost += m.cost
}

// batch is an inbox whose messages Recv hands out one after the other. It belongs to the goroutine that receives.
type batch struct {
	inbox
	page, pos, next int   // where the next message is: the page, the place in it, and which of those apart
	used            int64 // the cost of what has been handed out, as far as the windows have not been told
}

// take returns the next message, of which there must be one: its bytes, what it takes from the windows, and whether it is compressed and has memory of
// its own. What lies in a page is valid until the next call.
func (s *stream) take() (msg []byte, cost int64, packed, apart bool) {
	b := &s.batch
	p := b.pages[b.page]
	if b.pos == len(p.b) {
		b.page++
		b.pos = 0
		p = b.pages[b.page]
	}
	f := p.b[b.pos:]
	f = f[:frameSize(f)]
	b.pos += len(f)
	b.n--
	typ := f[3]
	if typ == typeApart {
		m := b.apart[b.next]
		b.apart[b.next] = message{}
		b.next++
		return m.b, m.cost, m.packed, true
	}
	return f[headerLen:len(f):len(f)], int64(len(f)) + frameCost - headerLen, typ&flagPacked != 0, false
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
