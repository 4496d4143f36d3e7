// Package status is the vocabulary of how calls end: a Code, an Error, and the facts that retry and breakers decide
// from. It imports nothing of Hull.
//
// Three facts stand beside the code. Fate is what is proved about processing (NotSent, Processed, or Maybe): it decides
// whether a call may be repeated. Kind is the way the call came to its code (dialling failed, the server shed it, a
// policy refused it): it decides whom the failure is charged to. Origin tells a node's own failure from one it passes
// on: only the layer nearest a failure retries it.
package status
