// Package examples holds small programs that run. Start each in a terminal of its own; they find each other.
//
//	go run ./examples/hello/server     a service of plain Go functions, as in the README
//	go run ./examples/hello/client     calls it
//	go run ./examples/greeter/server   a service of generated code, with streams
//	go run ./examples/greeter/client   calls it
//	go run ./examples/chain            three services, and what a deadline leaves at each
package examples
