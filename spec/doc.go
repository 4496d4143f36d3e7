// Package spec is the one specification of behaviour: a document that says timeouts, retries, breakers, limits and
// balancing per service and per method. The same document is read by clients, and by every program that stands in for
// one.
//
//	defaults:
//	  timeout: 2s
//	services:
//	  greeter:
//	    balancer: round-robin
//	    retry: {attempts: 2}
//	    methods:
//	      greeter.Greeter/Hello: {idempotent: true, timeout: 300ms}
//
// What a method does not say it inherits from its service, a service from defaults, and defaults from what Hull does with
// nothing configured. Every policy has a mode: on, dry-run (asks and counts what it would have done) or off. [Spec.Explain]
// says for every field of a method what holds and where it was said.
//
// A document is validated whole: [Parse] reports all faults at once, each with its line and with what may have been meant. A [Book]
// builds pipelines and pickers from a document and can be given another at any time; what did not change keeps its
// state. [Watch] does so whenever a file changes, and keeps the last good document in force as long as the file holds none.
//
// The tags of the structs are the only place where names, defaults and bounds stand. docs/spec.md and docs/spec.schema.json
// are made of them and of the comments.
package spec
