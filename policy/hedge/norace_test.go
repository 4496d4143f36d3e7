//go:build !race

package hedge

// interleavings is how many random ones are compared with the model.
const interleavings = 100_000
