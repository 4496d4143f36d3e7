package hull

// PortSnapshot is what a server's port has seen since Run, over all protocols but for what the native transport counts itself.
type PortSnapshot struct {
	// Conns are open now; Waiting of them are HTTP/2 connections that have not asked for anything yet.
	Conns, Waiting int64
	// Native, GRPC and HTTP connections there have been.
	Native, GRPC, HTTP int64
	// OverConns, OverConnsPerPeer and OverWaiting connections were closed because of these limits.
	OverConns, OverConnsPerPeer, OverWaiting int64
	// HandshakesFailed: connections that did not say in time what they speak, or whose TLS failed.
	HandshakesFailed int64
	// SlowReaders and SlowSenders were given up.
	SlowReaders, SlowSenders int64
	// ShutConns are those gRPC connections of SlowReaders that were closed because nothing fitted into the window that all their streams share, although the
	// streams that filled it had been reset.
	ShutConns int64
	// ResetFloods and ControlFloods: HTTP/2 connections closed because of Limits.Resets and Limits.ControlFrames; ControlFloods also those closed by
	// grpc-go because of too many pings.
	ResetFloods, ControlFloods int64
	// OverStreams: HTTP/2 streams refused because of Limits.StreamsPerConn, which their peer was told.
	OverStreams int64
	// CrossOrigin calls were refused because a page from elsewhere made them; TooLarge because of their message's size; LargeHeaders because of
	// Limits.Header; SlowHeaders because their header did not come whole within Limits.Handshake.
	CrossOrigin, TooLarge, LargeHeaders, SlowHeaders int64
	// Panicked handlers; Expired and Abandoned calls, which were over before their handler started.
	Panicked, Expired, Abandoned int64
}

func (f *front) snapshot() PortSnapshot {
	p, w, g := f.port.Counters(), f.web.Counters(), f.grpc.Counters()
	return PortSnapshot{Conns: p.Conns, Waiting: p.Waiting, Native: p.Native, GRPC: p.GRPC, HTTP: p.HTTP, OverConns: p.OverTotal,
		OverConnsPerPeer: p.OverPeer, OverWaiting: p.OverWaiting, HandshakesFailed: p.HandshakesFailed, SlowReaders: p.SlowReaders + w.SlowReaders,
		ShutConns: p.ShutConns, SlowSenders: p.SlowSenders + w.SlowSenders, ResetFloods: p.ResetFloods, ControlFloods: p.ControlFloods, CrossOrigin: w.CrossOrigin, TooLarge: w.TooLarge + f.grpc.TooLarge(),
		OverStreams: p.OverStreams, LargeHeaders: p.LargeHeaders + w.LargeHeaders, SlowHeaders: p.SlowHeaders,
		Panicked: w.Panicked + g.Panicked, Expired: w.Expired + g.Expired, Abandoned: w.Abandoned + g.Abandoned}
}
