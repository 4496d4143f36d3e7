// Package echovt holds the message of package echopb once more, with the
// methods for encoding that protoc-gen-go-vtproto generates. It is a package of
// its own, so that the other rivals are measured without them. Edit echo.proto,
// run scripts/generate at the root of the repository, then bench/generate.
package echovt
