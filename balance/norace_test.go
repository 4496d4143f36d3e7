//go:build !race

package balance

// seeds is how many seeds a simulation runs with.
const seeds = 20

// pooling: sync.Pool keeps what it is given.
const pooling = true
