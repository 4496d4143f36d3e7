package sim

// Scenarios returns all of them, by number.
func Scenarios() []Scenario {
	return []Scenario{
		RetryStorm(), CPUThrottle(), OpenLoopSpike(), OpenLoopRamp(), RetryPolicyCurve(), LayeredRetry(), BimodalDeadline(), CacheWipe(), LoadRamp(),
		GrayReplica(), FanOutHedge(), DemandJump(), PriorityShed(), ShardedBreaker(), TimeoutMismatch(), RegistryBlackout(), RollingRestart(), HalfDead(),
		Titanic(), BreakersInSeries(),
	}
}
