// Package breaker stops calls to what fails anyway, and finds out carefully when it works again.
//
// # Mental model
//
//	          ≥ MinCalls in Window, ≥ Failures of them failed
//	closed ──────────────────────────────────────────────────▶ open ◀───────────────┐
//	  ▲                                                         │ its time is over  │ a probe fails
//	  │ Ramp is over                                            ▼                   │ or does not come back
//	 ramp ◀────────────────────────────────────────────────  half-open ─────────────┘
//	          Successes probes in a row succeed
//
// Closed, every call goes and its final result is counted in a sliding window: what ended within Window (a ring of Buckets), or the
// latest LastCalls results. A failure opens the breaker if the window then holds at least MinCalls calls of which at least
// Failures failed, or if it is the last of Consecutive in a row; a success never does.
//
// Open, every call is refused, for Open × 2ⁿ⁻¹ at the n-th opening in a row, ± Jitter, never longer than OpenCap. A server's Retry-After
// (Pushback) can only make it longer, up to PushbackCap. Unless OpenCap is set the time does not grow at all: after an outage of a minute a breaker
// that stays open for 30 s is the outage's second half, and breakers in series add up, since the upper one takes what the lower one refuses for a failure.
// One probe a second is no load for anybody. Openings are in a row until the
// breaker has stayed closed for a whole Window.
//
// Half-open, one call at a time goes as a probe; all others are refused. The probe holds a lease: if its result is not there
// after ProbeLease, it is taken back and counts as a failure, so a call that never returns cannot keep the breaker half-open.
// A probe that ends as Ignored (its caller gave up) only gives the lease back. Probes that say nothing are ProbeEvery apart;
// one that succeeds lets the next follow at once, because waiting would only make the outage longer.
//
// After Successes probes the breaker is closed, but lets only 10 % of the calls through at first, rising to all of them within
// Ramp, so that a dependency with cold caches is not knocked over by what has piled up.
//
// # What counts
//
// The breaker is fed with the final result of whole calls, not with attempts: counting attempts opens it when two of four nodes
// fail although every call succeeds elsewhere. Success, Failure and TimedOut count. Ignored and Overloaded do not: a server that
// sheds load is doing its work, and a breaker that opened from sheds would take away what it still does. What the caller itself
// cancelled, or what was refused on this side, says nothing about the dependency.
//
// Each state has a generation, and permits carry that of the state that gave them. A result that comes back under another
// generation is dropped: a slow failure from before the outage cannot open a breaker that has just closed, and a late success
// cannot close one.
//
// Calls slower than Slow are counted beside their result. They open the breaker only if SlowCalls says at which share: there is no
// threshold that is right for every service.
//
// # By hand
//
// ForceOpen refuses all; ForceClosed lets all go and counts, which is a breaker for metrics only; Disable lets all go and counts
// nothing; Reset ends each of these. A breaker that shall only say what it would do belongs into a slot with policy.DryRun.
//
// # Cost
//
// Closed, Admit is one atomic load and Done one atomic write; refusing while open takes two loads and a counter. Everything else
// happens under one short mutex. Where processors have met over the latest LastCalls results, each saves up eight good ones before it writes
// them down; before a failed or slow one is judged all are written, so no decision and no Snapshot is without them. Nothing allocates, and no goroutine, timer or callback exists: changes of state are kept in a short
// log, see Events. Time passes only through the arguments, so a breaker that nobody asks stands still, and catches up when asked.
//
// # Sources
//
// Window, minimum and rate are Hystrix's defaults (20 calls, 50 %, 10 s) with its fixed sleep of 5 s replaced by a growing one
// (Envoy's outlier detection, Polly). Generations are known from sony/gobreaker. Leases, and that ignored outcomes return their permit,
// answer resilience4j #544, #903, #935 and #1389, where lost permits left a breaker half-open for good.
package breaker
