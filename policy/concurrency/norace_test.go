//go:build !race

package concurrency

const quick = false
