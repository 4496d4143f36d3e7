// Package echopb holds the generated code of the echo service of the
// benchmark: its message once, its service once for each rival that generates
// code. Edit echo.proto, run scripts/generate at the root of the repository
// for protobuf and gRPC, then bench/generate for the others.
package echopb
