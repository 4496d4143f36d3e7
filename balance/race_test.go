//go:build race

package balance

// seeds is how many seeds a simulation runs with. It is single-threaded, so the race detector finds nothing in more.
const seeds = 2

// pooling: sync.Pool keeps what it is given. Under the race detector it drops some at random.
const pooling = false
