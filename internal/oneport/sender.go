package oneport

import "time"

// senderSweeps is how often, within Options.SlowSender, requests that have not come whole are looked at.
const senderSweeps = 4

// whole notes that the peer has ended its side of a stream.
func (f *flows) whole(stream uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.open[stream]; s != nil {
		s.whole = true
	}
}

// Patient says that the request on a gRPC stream may take as long as it likes, because it is one of many messages. Who does not know the number says 0, and no
// request on the connection is bounded.
func (c *Conn) Patient(stream uint32) {
	f := c.flows
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.open[stream]; s != nil {
		s.whole = true
	}
	f.patient = f.patient || stream == 0
}

// expect has the requests of a gRPC connection looked at while there are some that have not come whole. mu is held.
func (f *flows) expect() {
	if f.grpc && f.senders == nil && !f.closed {
		f.senders = time.AfterFunc(f.conn.port.opt.SlowSender/senderSweeps, f.sweepSenders)
	}
}

// sweepSenders cuts off the streams whose request takes too long to come, and ends the connection if its peer lets nobody get a word in. The time is counted in
// sweeps: while the process stands still nothing comes.
func (f *flows) sweepSenders() {
	f.mu.Lock()
	if f.closed || f.patient {
		f.senders = nil
		f.mu.Unlock()
		return
	}
	left, stuck := false, false
	var cut []uint32
	for id, s := range f.open {
		if s.whole {
			continue
		}
		left = true
		switch s.sweeps++; {
		case s.sweeps > senderSweeps && s.cut == 0:
			s.cut, s.reason = 1, codeCancel
			f.cutting.Add(1)
			cut = append(cut, id)
		case s.sweeps > senderSweeps+2 && s.reason == codeCancel:
			stuck = true // in the middle of a frame
		}
	}
	if left {
		f.senders.Reset(f.conn.port.opt.SlowSender / senderSweeps)
	} else {
		f.senders = nil
	}
	f.mu.Unlock()
	f.conn.port.n.slowSenders.Add(int64(len(cut)))
	if stuck {
		f.conn.Close()
	} else if len(cut) > 0 {
		f.cuts.add(f.conn.Conn, cut)
	}
}
