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
// L is frozen and L + 2√L are let in, room for the noise of arrivals. While more are refused it holds two arms against each other, L(1 ± δ)
// with δ = max(0.15, 1/L), in the order up, down, down, up. A window that settles comes before one that is measured when
// the arm changes; a window takes at least 100 ms and max(40, L) ends, or 1 s. With X the ends per second and N the mean in use, per arm,
//
//	e = [(X₊−X₋)/(X₊+X₋)] / [(N₊−N₋)/(N₊+N₋)]        the elasticity of throughput
//	σ = ½ √(1/n₊ + 1/n₋) / [(N₊−N₋)/(N₊+N₋)]         its standard error, after n ends
//
//	e −     σ > 0.2   places are worth it    L × (1+s), s = 0.25, doubling while repeated, up to 1
//	e + 1.5 σ < 0.2   they are not           L × 0.85
//	else              go on sampling
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
// refused at once. It counts as empty again after 16 intervals in which it was short. A class whose line stands while lower ones
// get more than their reserve is spared: they make room.
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
// The lines' memory is reused; it grows to the longest line there was and is bounded by Queue.
//
// # What was measured
//
// Simulated with exponential work on 4 cores and a dependency of 20 ms, 20 seeds, share of the capacity served 20 s after the change, mean (least): 2 × load
// 1.00 (0.98); dependency 200 ms slower 0.98 (0.94); service 3 × slower 1.00 (0.94). At 0.8 × load nothing is shed; with a single core, up to
// 2.5 %. A jump to 1.4 × capacity, 100 seeds: waits stay below 2 × Target from 300 ms on, and no half second has less than 93 % of the capacity
// with a fixed limit, 88 % with an adaptive one close to what is needed, where the lower arm costs most. An adaptive limit that has never seen
// overload has its 20 places per core to fill before there is a line, and needs until 1 s after the jump. A 12 × spike of sheddable calls:
// 99.98 % of the critical ones are served (98.4 % with the worst seed), and 36 % where all have one class.
//
// Deciding at 0.3 and with 1 σ either way was tried first. In these simulations that made L shrink by mistake and settle where the lower arm
// costs up to 17 % of goodput for half a second at a time; hence 0.2, and 1.5 σ to shrink. The price is that L falls slowly, which costs latency in the
// service, not throughput.
//
// # Sources
//
// K. Nichols, V. Jacobson et al., RFC 8289 (CoDel). B. Maurer, "Fail at Scale" (ACM Queue, 2015) for a line that turns to LIFO. H. Zhou et al., "Overload Control
// for Scaling WeChat Microservices" (DAGOR, 2018) for shedding by hash so that the calls of a request live or die together. D. Chiu, R. Jain (1989) for AIMD.
// The classes are those of Site Reliability Engineering (2016), chapter 21.
package concurrency
