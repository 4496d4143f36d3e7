//go:build race

package rate

// interleavings: under the race detector each takes about ten times as long, and one caller has no races.
const interleavings = 4_000
