// Package faults makes a node of the demo misbehave on purpose. A fault of a call is a Fault: one method around the
// handler, one file each. Refusing connections is a fault of the Listener. A Set holds what is switched on.
//
// What can only be done to a process from outside (kill it, freeze it) is the supervisor's business.
package faults
