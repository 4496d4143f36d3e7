// Package metricCollector is how the numbers of hystrix's circuits reach a metrics system. It takes the place of
// github.com/afex/hystrix-go/hystrix/metric_collector: the import path is all that changes.
//
// Register an initializer before the first command runs; each circuit that is made afterwards calls it with its name, and tells the
// collector what every command came to:
//
//	metricCollector.Registry.Register(func(name string) metricCollector.MetricCollector { return newCollector(name) })
//
// A circuit calls each of its collectors from one goroutine at a time, away from the commands: a slow collector delays nobody.
// What it cannot take in is dropped once 2,000 results wait.
//
// # What differs from hystrix-go
//
//   - The collectors of one circuit are called one after the other, and in the order in which commands ended; hystrix-go starts a
//     goroutine per collector and result.
//   - A collector that panics loses that one result; in hystrix-go it kills the process.
//   - A result's RunDuration is how long the command ran also if it ran into its timeout or its caller gave up; in hystrix-go it is 0
//     then, which makes a dependency look faster the slower it gets. What was rejected or short-circuited is not in the DefaultMetricCollector's
//     RunDuration.
package metricCollector
