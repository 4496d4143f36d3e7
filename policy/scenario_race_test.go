//go:build race

package policy_test

// defaultSeeds is over how many seeds outages run; one World has no races, so that a few show that several at once have none.
const defaultSeeds = 6
