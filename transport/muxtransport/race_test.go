//go:build race

package muxtransport_test

// stride is how far apart the cuts of compressed messages are: compressing is slow where races are looked for, and each place is tried without.
const stride = 7
