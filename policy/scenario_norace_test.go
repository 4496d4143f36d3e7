//go:build !race

package policy_test

// defaultSeeds is over how many seeds outages run.
const defaultSeeds = 100
