package prototable

// For returns the table of v's type, or nil if it has none.
func For(v any) *table { return tableFor(v) }
