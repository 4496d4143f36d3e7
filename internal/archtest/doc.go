// Package archtest holds no code, only tests over the repository itself: which
// package may import which, what each may weigh in third-party modules, and the
// few rules of house style that need more than one file to check.
//
// A new package is added to docs/architecture.md and to the table in
// arrows_test.go; a new third-party module to the table in weights_test.go.
package archtest
