// Package supervise runs the demo's services as processes of the operating system, and does to them what cannot be done
// from inside: kill them and freeze them.
//
// A child is tied to its parent by a pipe, its standard input and output, over which the two talk (Link). When the parent
// is gone, however it went, the pipe ends and so does the child; a frozen child is woken by the kernel's own signals (Linux:
// the parent-death signal, which kills also what is stopped; elsewhere: the hang-up that an orphaned process group gets).
package supervise
