//go:build !race

package throttle

// interleavings is how many random ones are compared with the model.
const interleavings = 100_000
