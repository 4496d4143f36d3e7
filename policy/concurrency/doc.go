// Package concurrency bounds how many attempts are under way at once: a bulkhead with a fixed limit, or a limit that finds the
// service's capacity by itself, with a short line in front of it.
//
// # Mental model
//
// There are so many places. Who finds one free takes it; who does not is refused, or, where Queue allows it, joins the line and waits for
// at most MaxWait, and never beyond its own deadline. A place is held until the work has really ended, not until its
// caller stopped waiting for it: a limit that is freed at the timeout while the work goes on bounds nothing (with
// hystrix-go 20 functions run at a limit of 2).
//
// By Little's law, places in use = rate × time taken. A dependency that gets slow therefore uses them up at an unchanged rate, and what
// it would otherwise hold up (goroutines, memory, connections) stays free for the others. That is also why a fixed limit has no line
// unless asked for: waiting in front of what hangs only makes more of what hangs.
//
//	bulkhead, err := concurrency.New(concurrency.Options{Limit: 50})
//
//	source, err := concurrency.NewTwoArm(concurrency.TwoArmOptions{})
//	server, err := concurrency.New(concurrency.Options{Source: source})
//
// # How many: sources
//
// A Source turns the limit into something that is learned from what becomes of those who have a place. It is pure, and may be one's own.
//
// TwoArm asks one question: does more concurrency bring more throughput? While less than 2 % are refused the limit does not matter:
// L is frozen and L + max(24, 2√L) are let in, room for the noise of arrivals. While more are refused, two windows in a row, it holds two arms
// against each other, L(1 ± δ), in the order up, down, down, up. δ is 1.2/√X with X ends per second, from 0.15 to 0.3, and at least 1/L: the arms
// are further apart where little can be learned in a second. A window that settles comes before one that is measured when the arm
// changes; a window takes at least 100 ms and max(40, L) ends, or 1 s and as many ends as there are places in use: those in use have then all come
// within it, however slow the service is. With N the mean in use, per arm,
//
//	e = [(X₊−X₋)/(X₊+X₋)] / [(N₊−N₋)/(N₊+N₋)]        the elasticity of throughput
//	σ = ½ √(1/n₊ + 1/n₋) / [(N₊−N₋)/(N₊+N₋)]         its standard error, after n ends
//
//	e − 1.5 σ > 0.1   places are worth it    climb (after the first up and down already if it is above 0.3)
//	e +     σ < 0.1   they are not           L × 0.85
//	else              go on sampling
//
// A climb takes steps from the upper arm, the first × 1.5, the others × 2, for as long as e − σ > 0.1 from each to
// the next. The last step is taken back if it is not after four windows, and at once if more than a tenth of the
// answers came too late; for four comparisons no climb then goes more than half-way to that point.
//
// Where attempts take a second or more, a comparison lasts for ten, and its lower arm refuses what would have been in time. There a step of half as many
// places again is taken first, a lift, at the first window with more than 2 % refused, if a regression of throughput over places, window by window, says
// that e − σ > 0.1, and if attempts would take no more than 0.85 of what callers wait even if places brought nothing. It stands if that is enough for all, and
// is taken back like a step of a climb if places are shown to bring nothing; not when that is in doubt. For 10 s after places were found to be of no use
// there is none. If nobody is refused with the upper arm, the lower is not visited, and a comparison begins with the upper arm where the limit was.
//
// That is too slow for callers in a hurry: a limit that begins far too high is filled within a second, everybody then waits in the service for longer than
// callers do, and all that it does is for nobody. So permits remember how many places were taken when they were given, and how long their
// callers were willing to wait. A regression line through the latest 64 attempts that took an eighth of that or more says what one that begins now would
// take. If that is six tenths of what callers wait or more, and it grows with the places so evenly (R² ≥ 0.75, at least 0.75 % for one per cent more)
// that fewer of them cost no throughput, places are taken away at once, down to where attempts take 0.55 of it, but not below an eighth of what there was. The line that forms then serves the important
// calls first, which refusing those that would be late could not. Where attempts are slow for another reason more places do not make them slower, or more
// ends than the line says is possible, and nothing is taken away. Nor is it where fewer than half of what ends comes near what its caller waits for, so that
// no client with short deadlines takes places from all others, nor with less than a quarter of the places in use. If a fifth more calls arrive than
// lately it is they who fill the places: then an eighth of these is enough, and R² ≥ 0.6, since a limit that begins at 20 for each processor is far above what
// callers of a service of 20 ms wait for.
//
// A dependency that gets slower within a second looks the same, by Little's law: places fill in step with what attempts take. So a cut is on trial. If
// those that begin after it, 16 or as many as there are places, take no less than before instead of what the line promised, the places are given back,
// and none are taken away for 2 s, the next time 4 s, at most 32 s. The more attempts, up to 256, the smaller the difference that counts: 3.5/√n. It takes no effect while
// half of them are late. Until then, some 100 ms at 1,000 calls a second and half a second at 400, calls are refused that would have been in time. Callers
// without deadlines are never the reason for a cut: a server that must not make any has AIMD, or a Limit.
//
// There is no baseline of the latency, so none that drifts in long incidents, and no dip to measure one. Min is the floor. Only successes
// count as throughput; answers that came too late do not. If most do, L is halved at once, down to an eighth: further would not help, it
// would be the dependency that does not answer. While a window settles the limit moves a little with each end, since one that falls at once
// lets nobody in until the surplus has gone.
//
// AIMD adds a place for each full round of good answers and keeps nine tenths at a timeout or an answer slower than Slow. It is the simplest, and right
// where a latency is promised; it knows nothing of throughput. There is no Gradient2: after a dependency got 200 ms slower for good, its
// baseline kept it at 4 % of the capacity in simulation.
//
// # Who is next: the line
//
// Calls rank by criticality, and within a class first attempts before retries. A higher rank goes first and, when the line is full, takes the seat of
// a lower one. Each lower class keeps one place in fifty and as much of the line, so that none is starved. Within a rank Order decides: FIFO, LIFO,
// or CoDel, which is FIFO while the line empties now and then. If its first has waited above Target (5 ms) all through an
// Interval (100 ms) the line stands: it only delays everyone. Then who came last is next, who has the most time left, and who waited 2 × Target is
// refused at once. It counts as empty again after 16 intervals in which it was short. The places of a Source count as part of the line, since there may
// be far more than are needed: if more than half were taken all through an Interval, a line that is long stands at once. A class whose line
// stands while lower ones get more than their reserve is spared: they make room.
//
// When a Source takes so many places away that a quarter more are in use than there are, nobody gets in until as many have ended, however few come. For two intervals
// no line counts as standing because of that, who came last is next, since he has the time left that the service takes, and nobody's share of the roots that are
// shed rises.
//
// Which calls are shed is not left to chance where the calls' root requests are known (Root). If calls of a class had to be refused in the last Interval,
// a share of the roots is refused at arrival in the next:
//
//	share = 1 − 1.25 × served / arrived, at most 0.98
//
// chosen by a hash that is the same everywhere, so that services shed the same requests, and of the calls that make up a request none is served
// in vain. The surplus of a quarter keeps the line from running dry.
//
// # Cost and correctness
//
// The number in use and the number waiting are two halves of one word. While nobody waits, taking and giving back a place is one
// compare-and-swap each, without a lock, and a source adds one atomic addition. Joining adds to the waiting half only if the word still says that all
// places are taken, so a place that is given back at that moment is either seen by who joins or by who gives it back: no wake-up is lost.
// The rule that keeps it so: whoever calls Done calls Next until there is no more, which executors do. Who was displaced hears of it from
// the next Next, or when its own time is up.
//
// Where processors meet in that word, and there are 16 places or more, a place that is given back waits at a desk of the processor for its next
// call, as long as half of the places are free and nobody waits. Whoever finds no place in the word first brings those back, so the limit stays
// exact: never more are in use, and nobody is refused or parked while one is free. The desks are shut as long as anybody waits, while TwoArm
// compares its arms, and for sources of one's own, which are always told exactly how many places are in use. A TwoArm whose limit does not matter
// counts ends by processor as well. With one processor there are neither.
//
// The lines' memory is reused; it grows to the longest line there was and is bounded by Queue.
//
// # What was measured
//
// Simulated with exponential work on 4 cores and a dependency of 20 ms, by 30 seeds that nothing was tuned on, share of the capacity served 20 s after
// the change, mean (least): 2 × load 0.99 (0.96); dependency 200 ms slower 0.98 (0.94); service 3 × slower 1.00 (0.91). At 0.8 × load at
// most 0.2 % are shed on average. With the worst seed it is 1.1 % of the 30 s after an overload of 2 × on one core, all but 0.1 % of it in the first five of
// these, while what the overload taught is unlearned. Services of which a call takes 1 to 3 s get to 0.91 of
// their capacity or more within 40 to 70 s from a limit 10 to 30 times too low. One of which a call takes 1 s and 10 ms for each that is under way, with 40
// a second and 64 places at first, of the 67 that it needs, serves 0.98 (0.90) of the calls from 10 s to 40 s, and 0.86 (0.71) without lifts. Where calls get in each other's way until answers are late, 0.76 of
// what is possible.
//
// A jump to 1.4 × capacity, 100 seeds: waits in the line stay below 2 × Target from 300 ms on, and no half second has less than 94 % of the capacity,
// whether the limit has seen overload before or not and wherever it began. What it begins too high by is filled all the same if callers have the time, and
// those calls wait in the service: 230 ms with the 20 places for each core that are the default, until L has come down. A 12 × spike of sheddable calls: all of the critical ones
// are served, and 36 % where all have one class.
//
// Deciding at 0.3 and with 1 σ either way was tried first. That made L shrink by mistake and settle where the lower arm costs up to 17 % of goodput for
// half a second at a time, and a climb by mistake costs more than a shrink: hence 0.1 and 1.5 σ to climb. The price is that L falls slowly, which costs
// latency in the service, not throughput.
//
// # Sources
//
// K. Nichols, V. Jacobson et al., RFC 8289 (CoDel). B. Maurer, "Fail at Scale" (ACM Queue, 2015) for a line that turns to LIFO. H. Zhou et al., "Overload Control
// for Scaling WeChat Microservices" (DAGOR, 2018) for shedding by hash so that the calls of a request live or die together. D. Chiu, R. Jain (1989) for AIMD.
// The classes are those of Site Reliability Engineering (2016), chapter 21.
package concurrency
