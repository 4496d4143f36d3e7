// Package stats counts what became of calls, second by second: totals since the start, a window of the last ten seconds
// with its latency quantiles, and two minutes of history for a chart.
package stats
