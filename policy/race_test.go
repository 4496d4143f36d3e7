//go:build race

package policy_test

// Under the race detector everything takes twenty times as long.
const scenarios = 1_000
