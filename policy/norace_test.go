//go:build !race

package policy_test

const scenarios = 20_000
