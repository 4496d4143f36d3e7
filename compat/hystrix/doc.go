// Package hystrix takes the place of github.com/afex/hystrix-go/hystrix: the import path is all that changes.
//
//	import "github.com/hull-go/hull/compat/hystrix"
//
//	hystrix.ConfigureCommand("users", hystrix.CommandConfig{Timeout: 300, MaxConcurrentRequests: 100})
//	err := hystrix.Do("users", func() error { return load() }, func(err error) error { return loadFromCache() })
//
// It is for programs that use hystrix-go today. New ones are better off with package policy, whose pipelines are values instead of names,
// retry and hedge, and say why they refuse.
//
// # Mental model
//
// A command is a function under a name. All commands of a name share a circuit and a number of places. A command runs if the circuit allows
// it and a place is free; it fails if the function returns an error or panics, or its time is up. A command that fails, or may not run, ends
// with its fallback.
//
// The circuit counts how commands ended over the last ten seconds. When a command comes and there are RequestVolumeThreshold
// results of which ErrorPercentThreshold percent are errors, it opens, and refuses. Once per SleepWindow it lets one
// command through as a test; if that succeeds, it closes and begins to count anew.
//
// Functions, settings and circuits belong to the whole program, as hystrix-go's API has it. Settings are made before commands run, or
// at any time with ConfigureCommand. Everything may be called from several goroutines.
//
// # What is as it was
//
// Everything that compiles with hystrix-go compiles, and means the same: defaults, error values and strings, what is logged, the
// events of the dashboards' stream, and what counts as what. That includes what a fresh design would do otherwise:
//
//   - The function runs on a goroutine of its own and may outlive its command: a timeout does not stop it, unless it minds its context.
//     Its place is given back at the timeout all the same, so more functions than MaxConcurrentRequests can be running. (policy.Detach
//     keeps the place until the function ends.)
//   - Refusals for want of a place count as errors, so a full pool can open the circuit.
//   - The time between tests does not grow, one success closes, and then all calls come at once. (Package breaker knows better.)
//   - MaxConcurrentRequests of a circuit that exists stays what it was until Flush.
//   - Circuits are made for each name and stay until Flush: names must not be made up per call.
//
// # What differs, and why
//
//   - Flush leaves nothing behind. In hystrix-go two goroutines of each circuit stay for ever. Here there are none, except one while a
//     collector of the user's own has something to take in.
//   - At the timeout the context that DoC and GoC give to the function ends, with context.DeadlineExceeded. In hystrix-go the function never
//     learns that nobody waits for it. The fallback has the caller's context, as ever. When the function returns in time its context
//     does not end with it, as contexts otherwise do: programs read on from what they have opened under it.
//   - What began before the circuit opened does not close it, and what began before it closed is not counted after that. In hystrix-go one
//     slow call from before an outage closes the circuit in the middle of it.
//   - Callers who give up, or whose deadline passes, are counted and shown, but not among the requests that the error percentage is taken of. In
//     hystrix-go they dilute it: with enough of them the circuit never opens. The same goes for a function that passes on, wrapped, that its
//     caller has given up, which hystrix-go takes for a failure. And a caller who is gone from the start runs nothing.
//   - When Do returns, or an error arrives at Go's channel, the place is free and the command is counted. In hystrix-go both happen a little
//     later, so that the next Do may be refused.
//   - A panic in a function or a fallback is an error, a PanicError with the stack, and so is runtime.Goexit. In hystrix-go the first kills the
//     process, and after the second Do never returns.
//   - errors.Is and errors.As find both causes in the error of a fallback that failed. In hystrix-go they are text.
//   - The stream's handler works without http.CloseNotifier, before Start and after Stop, which may both be called twice, and
//     with ResponseWriters that wrap another. hystrix-go panics. Stop ends the clients' connections, and the server's WriteTimeout does
//     not; a client that takes nothing in for ten seconds is let go. The timeout and the number of running commands are in the
//     events, where hystrix-go says 0.
//   - A command that ran into its timeout counts with the time that it ran, and one that was refused does not count as having run. In
//     hystrix-go both count as 0 ms. How many durations are kept is bounded, see package rolling.
//   - Impossible settings, such as a negative number of places, are an error of GetCircuit, Do and Go. hystrix-go panics.
//   - SetLogger may be called while commands run, and with nil.
//   - Ten seconds are ten seconds. In hystrix-go they are ten or eleven.
//
// # Cost
//
// A command costs a goroutine, a timer and a channel, five allocations together, and about a fifth of what it costs in hystrix-go, which also
// starts a second goroutine per command and passes results through a third.
package hystrix
