// Package echopb holds the generated code of the echo service that benchmarks
// and transport tests call. Edit echo.proto and run make generate.
package echopb
