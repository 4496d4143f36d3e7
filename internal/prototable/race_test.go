//go:build race

package prototable_test

// many is how many random messages a type is tested with. Few are enough to show the race detector,
// and checks of pointers, which code there is; what it does is tested without.
const many = 40
