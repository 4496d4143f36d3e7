// Package admission decides which calls a server runs: the pure half of the server's pipeline. Like policies it is given the time and the
// randomness, starts nothing and waits for nothing; package hull is its executor, and event heaps in tests are others.
//
// # Mental model
//
// A Desk stands before the handlers of one server. Each call asks at its arrival, in this order:
//
//	pressure    the machine is short of processor or memory: a share of the less important calls is refused
//	rate limit  of its caller, if there is one
//	limit       a place in the hall of handlers, or in the short line before it (policy/concurrency, two-arm by default)
//	reserve     when the hall is full: the few places that are kept for its method
//
// and holds what it got in a Seat until its handler has returned.
//
// # What is kept for each method
//
// A method whose handlers hang takes every place there is, and with it the other methods die. Limits for each method would have to be
// guessed. Here the hall is everybody's, and beside it each method keeps a reserve: as many calls as it had under way lately and a quarter more,
// up to an even share of the limit as it is at the moment, may always run, whether the hall is full or not. While all goes well a method has its calls in the
// hall and its reserve is not touched; when another method has filled the hall, it goes on as before. Together the reserves are at most the
// limit once more. Only critical calls have a reserve: a flood of prefetching has a method of its own, too, and must not gain by it. But when the hall
// stands still, because nobody has left it for a second, it is no flood that keeps the others out: then sheddable calls are lent a quarter of their method's
// reserve, or one place, until somebody leaves. They run beside it, so that critical calls have all of it nevertheless.
//
// # Handlers that do not return
//
// A call that still runs a while after its deadline works for nobody. Its place is given back, so that others can run, and it is counted as
// abandoned. There are never more abandoned calls than places; when there are as many, their places stay taken, and the server says that it is
// not ready: only a new process helps.
package admission
