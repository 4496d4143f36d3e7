//go:build !race

package prototable_test

// many is how many random messages a type is tested with.
const many = 2000
