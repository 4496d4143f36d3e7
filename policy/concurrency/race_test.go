//go:build race

package concurrency

// quick: under the race detector everything takes ten to twenty times as long, so the long runs are made without it.
const quick = true
