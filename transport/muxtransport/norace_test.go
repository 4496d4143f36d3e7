//go:build !race

package muxtransport_test

const stride = 1
