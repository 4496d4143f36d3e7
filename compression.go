package hull

// WithCompression says how native connections compress messages, in both directions: "gzip" or "zstd". Without it a side compresses only if the
// other one asks; "none" keeps it from doing so, and from taking anything compressed. Messages of less than a KiB are not compressed, and
// connections within one machine are not either: there it costs more than it saves. grpc.UseCompressor chooses for one call, over gRPC too. One
// that only gRPC knows fails with Unimplemented over the native protocol.
func WithCompression(name string) Option {
	return bothOption{func(o *clientOptions) error { o.mux.Compression = name; return nil },
		func(o *serverOptions) error { o.mux.Compression = name; return nil }}
}
