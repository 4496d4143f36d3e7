// Package rolling counts and times over the last seconds. It takes the place of github.com/afex/hystrix-go/hystrix/rolling: the
// import path is all that changes.
//
// A Number is one value per second for ten seconds, a Timing a sample of durations per second for a minute. Time passes as
// the process's monotonic clock tells, so a stepped wall clock neither empties nor freezes them.
//
// # What differs from hystrix-go
//
//   - A Timing keeps at most 100 durations of each second, an even sample of all there were; hystrix-go keeps every one, so that a
//     minute of 10,000 calls per second holds 600,000 and sorts them each time the dashboard asks.
//   - Sum and Max look at ten seconds; hystrix-go looks at ten or eleven, as it happens.
//   - Mean is right above 4.29 s, where hystrix-go's overflows 32 bits, and Percentile answers for any percentile; hystrix-go panics
//     below 0 and above 100.
//   - Reading the cached durations is no data race.
//   - Old seconds are thrown away once per second instead of at every call.
package rolling
