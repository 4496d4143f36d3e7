package spec

// Spec is the whole document. The zero value means the defaults of every policy.
type Spec struct {
	// Defaults hold for every service.
	Defaults Service `yaml:"defaults,omitempty" json:"defaults,omitzero"`
	// Services by discovery name.
	Services map[string]Service `yaml:"services,omitempty" json:"services,omitempty"`
}

// Service is what holds for one service: the policies of its methods, and those that all its methods share.
type Service struct {
	Policy `yaml:",inline"`
	// Balancer says how calls are spread: by latency and load over the better of two nodes (p2c), in turn, by chance, in
	// turn with each node exactly at its weight (weighted), to the node with the fewest calls under way, by the call's key
	// (consistent-hash), or by latency over those of a few nodes that are not hot (prequal).
	Balancer string `yaml:"balancer,omitempty" json:"balancer,omitempty" default:"p2c" choices:"p2c round-robin random weighted least-connections consistent-hash prequal"`
	// HashBound is how many times its part of the calls under way a node may have before consistent-hash sends a key's
	// calls to its next node.
	HashBound float64 `yaml:"hash_bound,omitempty" json:"hash_bound,omitzero" default:"1.25" range:"1.01 1000"`
	// Locality is where this client runs: calls stay near as long as enough nodes there are well.
	Locality Locality `yaml:"locality,omitempty" json:"locality,omitzero"`
	// Subset keeps this client to a part of a large fleet.
	Subset Subset `yaml:"subset,omitempty" json:"subset,omitzero"`
	// Canary gives one version a share of the calls, however many nodes it has.
	Canary Canary `yaml:"canary,omitempty" json:"canary,omitzero"`
	// SlowStart is how long a node that joins takes to get its full share of calls; 0s = it gets it at once.
	SlowStart *Duration `yaml:"slow_start,omitempty" json:"slow_start,omitempty" default:"10s"`
	// Decay is the time constant of the latency estimates that balancing works with.
	Decay Duration `yaml:"decay,omitempty" json:"decay,omitzero" default:"10s"`
	// Ejection keeps calls away from nodes that fail.
	Ejection Ejection `yaml:"ejection,omitempty" json:"ejection,omitzero"`
	// Concurrency bounds the calls under way from this client.
	Concurrency Concurrency `yaml:"concurrency,omitempty" json:"concurrency,omitzero"`
	// Throttle holds back calls that the service would refuse anyway.
	Throttle Throttle `yaml:"throttle,omitempty" json:"throttle,omitzero"`
	// Rate bounds how many calls this client begins in a time.
	Rate Rate `yaml:"rate,omitempty" json:"rate,omitzero"`
	// RetryBudget bounds how many extra attempts, retries and hedges, there may be to all methods together.
	RetryBudget RetryBudget `yaml:"retry_budget,omitempty" json:"retry_budget,omitzero"`
	// ServerLimit bounds the calls under way in a node of this service.
	ServerLimit ServerLimit `yaml:"server_limit,omitempty" json:"server_limit,omitzero"`
	// ServerRate bounds how many calls each caller of a node of this service begins in a time.
	ServerRate ServerRate `yaml:"server_rate,omitempty" json:"server_rate,omitzero"`
	// ServerPressure has a node of this service refuse less important calls while its machine is short of processor or memory.
	ServerPressure ServerPressure `yaml:"server_pressure,omitempty" json:"server_pressure,omitzero"`
	// Methods by name, pkg.Service/Method.
	Methods map[string]Policy `yaml:"methods,omitempty" json:"methods,omitempty"`
}

// Policy is what holds for one method. Every field left out is inherited.
type Policy struct {
	// Timeout bounds the whole call; a caller that has less time left wins.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout,omitzero" auto:"the caller's own deadline, or 5s"`
	// Idempotent: the method may be run twice, so calls of it are repeated when it is not known whether they were processed.
	Idempotent *bool `yaml:"idempotent,omitempty" json:"idempotent,omitempty" auto:"as the service publishes"`
	// SideEffectFree: the method may be run on two nodes at once, so calls of it can be hedged.
	SideEffectFree *bool `yaml:"side_effect_free,omitempty" json:"side_effect_free,omitempty" auto:"as the service publishes"`
	// AttemptTimeout bounds one attempt, so that time is left for another.
	AttemptTimeout AttemptTimeout `yaml:"attempt_timeout,omitempty" json:"attempt_timeout,omitzero"`
	// Retry repeats what failed, where that is safe.
	Retry Retry `yaml:"retry,omitempty" json:"retry,omitzero"`
	// Hedge starts another attempt beside one that takes long, for methods without side effects.
	Hedge Hedge `yaml:"hedge,omitempty" json:"hedge,omitzero"`
	// Breaker stops calls of a method that fails anyway.
	Breaker Breaker `yaml:"breaker,omitempty" json:"breaker,omitzero"`
	// Fallback answers calls that have failed.
	Fallback Fallback `yaml:"fallback,omitempty" json:"fallback,omitzero"`
}

// AttemptTimeout bounds one attempt. In dry-run, attempts that would have been ended are counted.
type AttemptTimeout struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Fixed is given to every attempt, in place of what is learned from latencies.
	Fixed Duration `yaml:"fixed,omitempty" json:"fixed,omitzero" auto:"learned"`
	// Min is the shortest timeout that is learned.
	Min Duration `yaml:"min,omitempty" json:"min,omitzero" default:"100ms" upto:"cold max"`
	// Max is the longest timeout that is learned.
	Max Duration `yaml:"max,omitempty" json:"max,omitzero" default:"1m"`
	// Cold is the timeout while too little is known. Unless it is set, attempts get a third of what is left of the call, if that is more, until one was answered.
	Cold Duration `yaml:"cold,omitempty" json:"cold,omitzero" auto:"1s, within min and max" upto:"max"`
	// Quantile of the latencies that the timeout is a multiple of.
	Quantile Percent `yaml:"quantile,omitempty" json:"quantile,omitzero" default:"99%" range:"1% 99.99%"`
	// Factor times the quantile is the timeout.
	Factor float64 `yaml:"factor,omitempty" json:"factor,omitzero" default:"2" range:"1 100"`
	// Share of what is left of the call that an attempt gets at most while another can follow.
	Share Percent `yaml:"share,omitempty" json:"share,omitzero" default:"70%" range:"1% 99%"`
	// Window is how far back latencies count.
	Window Duration `yaml:"window,omitempty" json:"window,omitzero" default:"10s" range:"10ms 24h"`
	// MinSamples is how many attempts must be known before anything is learned.
	MinSamples int `yaml:"min_samples,omitempty" json:"min_samples,omitempty" default:"100" range:"1 1000000"`
}

// Retry repeats what failed, where that is safe. In dry-run, failures that would have been repeated are counted, as if the
// retry budget could pay for all of them.
type Retry struct {
	// Mode is how far it counts. Off takes hedging with it: both are extra attempts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Attempts in total, the first and hedges included. One that reached nobody does not count while there is another node.
	Attempts int `yaml:"attempts,omitempty" json:"attempts,omitempty" default:"3" range:"1 8"`
	// Backoff says how the wait before a repetition is chosen. What was not sent is repeated at once.
	Backoff string `yaml:"backoff,omitempty" json:"backoff,omitempty" default:"full-jitter" choices:"full-jitter exponential constant decorrelated immediate"`
	// Base is the scale of the first wait.
	Base Duration `yaml:"base,omitempty" json:"base,omitzero" default:"25ms" upto:"cap"`
	// Cap is the longest wait, unless the server asks for a longer one.
	Cap Duration `yaml:"cap,omitempty" json:"cap,omitzero" auto:"250ms, or base if that is more"`
	// Internal repeats idempotent calls that failed with Internal or Unknown, a panic among them, as well. Elsewhere they are
	// taken for a fault of the request, which would fail on every node.
	Internal *bool `yaml:"internal,omitempty" json:"internal,omitempty" default:"false"`
}

// Hedge starts another attempt beside one that takes long, for methods without side effects. It goes to another node: where a service has only one there is none. In
// dry-run, delays are learned and calls that would have got another attempt are counted.
type Hedge struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"off"`
	// Delay is how long after an attempt's start the next begins.
	Delay Duration `yaml:"delay,omitempty" json:"delay,omitzero" auto:"learned"`
	// Quantile of the latencies that is learned as the delay.
	Quantile Percent `yaml:"quantile,omitempty" json:"quantile,omitzero" default:"95%" range:"1% 99.99%"`
	// Min is the shortest delay that is learned.
	Min Duration `yaml:"min,omitempty" json:"min,omitzero" default:"1ms"`
	// MinSamples is how many attempts must be known before a delay is learned.
	MinSamples int `yaml:"min_samples,omitempty" json:"min_samples,omitempty" default:"100" range:"1 1000000"`
	// Window is how far back latencies count.
	Window Duration `yaml:"window,omitempty" json:"window,omitzero" default:"10s" range:"10ms 24h"`
	// Hedges is how many attempts a call may get beside its first.
	Hedges int `yaml:"hedges,omitempty" json:"hedges,omitempty" default:"1" range:"1 7"`
	// Extra is the share of extra attempts to calls.
	Extra Percent `yaml:"extra,omitempty" json:"extra,omitzero" default:"5%" range:"0.01% 100%"`
	// Burst is how many extra attempts can be saved up.
	Burst int `yaml:"burst,omitempty" json:"burst,omitempty" default:"10" range:"1 1000000"`
}

// Breaker stops calls of a method that fails anyway.
type Breaker struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Window is how far back results count. It should be longer than the timeout.
	Window Duration `yaml:"window,omitempty" json:"window,omitzero" default:"10s" range:"10ms 24h"`
	// LastCalls makes the latest so many results count, however old, in place of those within window: for methods that are called
	// so rarely that no window holds enough of them.
	LastCalls int `yaml:"last_calls,omitempty" json:"last_calls,omitempty" auto:"what is within window counts" range:"1 10000"`
	// MinCalls is how many results must be there before the breaker can open; with fewer last_calls, so many.
	MinCalls int `yaml:"min_calls,omitempty" json:"min_calls,omitempty" default:"20" range:"1 1048576"`
	// Failures is the share of failed calls that opens it.
	Failures Percent `yaml:"failures,omitempty" json:"failures,omitzero" default:"50%" range:"0.01% 100%"`
	// Consecutive failures open it too, whatever the share; 0 = they do not.
	Consecutive *int `yaml:"consecutive,omitempty" json:"consecutive,omitempty" default:"0" range:"0 1048576"`
	// Slow is from how long on a call is counted as slow.
	Slow Duration `yaml:"slow,omitempty" json:"slow,omitzero" auto:"slow calls are not counted"`
	// SlowCalls is the share of slow calls that opens it. It needs slow.
	SlowCalls Percent `yaml:"slow_calls,omitempty" json:"slow_calls,omitzero" auto:"slow calls are only counted" range:"0.01% 100%"`
	// Open is how long it stays open the first time. Each opening in a row doubles it, up to open_cap.
	Open Duration `yaml:"open,omitempty" json:"open,omitzero" default:"1s" upto:"open_cap pushback_cap"`
	// OpenCap is the longest time that it stays open by itself.
	OpenCap Duration `yaml:"open_cap,omitempty" json:"open_cap,omitzero" auto:"open, so that the time does not grow" upto:"pushback_cap"`
	// PushbackCap is the longest time that it stays open because the service asked for it, by Retry-After for instance. It is at least open_cap.
	PushbackCap Duration `yaml:"pushback_cap,omitempty" json:"pushback_cap,omitzero" auto:"30s, or open_cap if that is more"`
	// Jitter is the share by which open times vary, so that callers do not come back together.
	Jitter *Percent `yaml:"jitter,omitempty" json:"jitter,omitempty" default:"20%" range:"0% 99%"`
	// ProbeEvery is how long after a probe the next may go if the first said nothing.
	ProbeEvery Duration `yaml:"probe_every,omitempty" json:"probe_every,omitzero" default:"1s" upto:"probe_lease"`
	// ProbeLease is how long a probe may take before it is taken back as failed.
	ProbeLease Duration `yaml:"probe_lease,omitempty" json:"probe_lease,omitzero" auto:"5s, or probe_every if that is more"`
	// Successes is how many probes in a row must succeed before it closes.
	Successes int `yaml:"successes,omitempty" json:"successes,omitempty" default:"3" range:"1 1000"`
	// Ramp is how long the share of admitted calls grows from 10 to 100 % after closing; 0s = all at once.
	Ramp *Duration `yaml:"ramp,omitempty" json:"ramp,omitempty" default:"1s"`
}

// Fallback answers calls that have failed for good, retries included, unless the failure is an answer that the caller has to see, such as
// NotFound. What is declared is tried in this order, within what the caller has left: another service, an earlier answer, an answer or a code
// that stands in the document. Callers can see which one it was. Streams have no fallback. In dry-run, calls that would have had
// one are counted.
type Fallback struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Service that is called in place of this one, by the same method and with policies of its own, unless the method may have run
	// already and is not idempotent. If it has this service from defaults, a service is not its own fallback.
	Service string `yaml:"service,omitempty" json:"service,omitempty" auto:"no other service"`
	// Reserve is the share of the call's time that is kept for the other service.
	Reserve Percent `yaml:"reserve,omitempty" json:"reserve,omitzero" default:"25%" range:"1% 50%"`
	// Stale is how old an earlier answer to the same request with the same metadata may be. Only methods that are side_effect_free are
	// answered so. A client keeps up to 10,000 answers, and 64 MiB.
	Stale Duration `yaml:"stale,omitempty" json:"stale,omitzero" auto:"no earlier answers"`
	// Answer is what calls return, whatever they asked for.
	Answer JSON `yaml:"answer,omitempty" json:"answer,omitempty" auto:"none"`
	// Code that calls fail with in place of their own. It does not go with answer.
	Code string `yaml:"code,omitempty" json:"code,omitempty" auto:"the failure's own" choices:"Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated"`
	// Message of the failure with that code.
	Message string `yaml:"message,omitempty" json:"message,omitempty" auto:"the failure's own"`
}

// Locality is where this client runs. Calls stay in its zone while at least 71 % of the nodes there are well; of fewer the zone
// gets 1.4 × that share of the calls, and the rest goes to the region, and from there elsewhere in the same way.
type Locality struct {
	// Zone that nodes are preferred of.
	Zone string `yaml:"zone,omitempty" json:"zone,omitempty" auto:"all zones are alike"`
	// Region that nodes are preferred of when the zone has too few.
	Region string `yaml:"region,omitempty" json:"region,omitempty" auto:"all regions are alike"`
}

// Subset keeps this client to a part of a large fleet, so that not every client keeps connections to every node. It does not go
// with the balancer consistent-hash, for which all clients have to choose among the same nodes.
type Subset struct {
	// Size is how many nodes that are well the client keeps to.
	Size int `yaml:"size,omitempty" json:"size,omitempty" auto:"all nodes" range:"1 1048576"`
	// Client is this client's number among its equals, counted from 1. Clients with numbers load all nodes alike.
	Client int `yaml:"client,omitempty" json:"client,omitempty" auto:"drawn by chance at each start" range:"1 1048576"`
}

// Canary gives one version a share of the calls, however many nodes it has. Calls with the same key keep to their version while
// the share grows. When no node of the version is well the others get its share.
type Canary struct {
	// Version that gets the share.
	Version string `yaml:"version,omitempty" json:"version,omitempty" auto:"none: calls are spread by nodes"`
	// Share of the calls, which a version needs; 0% = it is called when nothing else is left.
	Share *Percent `yaml:"share,omitempty" json:"share,omitempty" auto:"no version, no share" range:"0% 100%"`
}

// Ejection keeps calls away from nodes that fail, never from all of them.
type Ejection struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Consecutive failures that eject.
	Consecutive int `yaml:"consecutive,omitempty" json:"consecutive,omitempty" default:"5" range:"1 1048576"`
	// Base is the time of a first ejection. A second in a row takes twice as long, and so on.
	Base Duration `yaml:"base,omitempty" json:"base,omitzero" default:"5s" upto:"max"`
	// Max is the longest time of an ejection.
	Max Duration `yaml:"max,omitempty" json:"max,omitzero" default:"1m"`
	// Share is the largest share of the nodes that can be ejected, rounded down.
	Share Percent `yaml:"share,omitempty" json:"share,omitzero" default:"50%" range:"1% 99%"`
	// Sweep is how often success rates are compared; 0s = never.
	Sweep *Duration `yaml:"sweep,omitempty" json:"sweep,omitempty" default:"10s"`
	// Deviations is how many standard deviations below the mean a success rate ejects.
	Deviations float64 `yaml:"deviations,omitempty" json:"deviations,omitzero" default:"1.9" range:"0.1 10"`
	// MinNodes is how many nodes a comparison needs.
	MinNodes int `yaml:"min_nodes,omitempty" json:"min_nodes,omitempty" default:"5" range:"1 1048576"`
	// MinCalls is how many calls of each node a comparison needs.
	MinCalls int `yaml:"min_calls,omitempty" json:"min_calls,omitempty" default:"100" range:"1 1048576"`
	// SlowFactor: a node slower on average than this × the median of all is a latency outlier.
	SlowFactor float64 `yaml:"slow_factor,omitempty" json:"slow_factor,omitzero" default:"3" range:"1.01 1000"`
	// EjectSlow ejects latency outliers. Elsewhere they are only counted.
	EjectSlow *bool `yaml:"eject_slow,omitempty" json:"eject_slow,omitempty" default:"false"`
	// Probe is the time between two probes of an ejected node; 0s = no probes.
	Probe *Duration `yaml:"probe,omitempty" json:"probe,omitempty" default:"1s"`
	// Stall is how long nothing may be heard from a node with calls in flight; 0s = for ever.
	Stall *Duration `yaml:"stall,omitempty" json:"stall,omitempty" auto:"3 × p99, at least 100ms"`
}

// Concurrency bounds the calls under way.
type Concurrency struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Source says where the number of places comes from: it is fixed, or it is learned, by asking whether more places bring more
	// throughput (two-arm), or by adding places until calls time out or get slow (aimd).
	Source string `yaml:"source,omitempty" json:"source,omitempty" default:"fixed" choices:"fixed two-arm aimd"`
	// Limit is how many attempts may be under way, if the number is fixed.
	Limit int `yaml:"limit,omitempty" json:"limit,omitempty" default:"1024" range:"1 1048576"`
	// Min is the least number of places that is learned.
	Min int `yaml:"min,omitempty" json:"min,omitempty" default:"4" range:"1 131072" upto:"start max"`
	// Max is the greatest number of places that is learned.
	Max int `yaml:"max,omitempty" json:"max,omitempty" default:"10000" range:"1 131072"`
	// Start is the number of places that learning begins with.
	Start int `yaml:"start,omitempty" json:"start,omitempty" auto:"20 for each processor, within min and max" range:"1 131072" upto:"max"`
	// Slow is from how long on aimd takes an answer for a sign of overload, as it does with a timeout.
	Slow Duration `yaml:"slow,omitempty" json:"slow,omitzero" auto:"answers are no sign"`
	// Backoff is the share of the places that aimd keeps after a sign of overload.
	Backoff Percent `yaml:"backoff,omitempty" json:"backoff,omitzero" default:"90%" range:"1% 99%"`
	// Queue is how many may wait for a place; 0 = none.
	Queue *int `yaml:"queue,omitempty" json:"queue,omitempty" auto:"none if the number is fixed, else min(4 × places, 1000)" range:"0 1048576"`
	// MaxWait is how long each may wait.
	MaxWait Duration `yaml:"max_wait,omitempty" json:"max_wait,omitzero" default:"100ms"`
	// Order says who in the queue is next: who came first; who came last; or who came first while the queue empties now and
	// then, and who came last when it stands. More important calls go before.
	Order string `yaml:"order,omitempty" json:"order,omitempty" default:"fifo" choices:"fifo lifo codel"`
	// Target is the wait that codel tolerates in a queue that does not empty.
	Target Duration `yaml:"target,omitempty" json:"target,omitzero" default:"5ms"`
	// Interval is how long a queue must stand before codel acts.
	Interval Duration `yaml:"interval,omitempty" json:"interval,omitzero" default:"100ms"`
}

// Throttle is the client side of overload.
type Throttle struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Window is how far back the service's refusals count.
	Window Duration `yaml:"window,omitempty" json:"window,omitzero" default:"30s" range:"10ms 24h"`
	// K is how many calls are sent for each that is accepted, when the service refuses some.
	K float64 `yaml:"k,omitempty" json:"k,omitzero" default:"2" range:"1 100"`
	// Max is the largest share of calls that is held back.
	Max Percent `yaml:"max,omitempty" json:"max,omitzero" default:"90%" range:"1% 99%"`
	// MinCalls is how many calls the window must hold before any is held back.
	MinCalls int `yaml:"min_calls,omitempty" json:"min_calls,omitempty" default:"20" range:"1 1048576"`
}

// Rate bounds how many calls this client begins in a time.
type Rate struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Limit is how many calls may begin within per.
	Limit float64 `yaml:"limit,omitempty" json:"limit,omitzero" auto:"no limit" range:"0.001 100000000"`
	// Per is the time that limit is about.
	Per Duration `yaml:"per,omitempty" json:"per,omitzero" default:"1s" range:"1ms 24h"`
	// Burst is how many may begin at once after a pause.
	Burst int `yaml:"burst,omitempty" json:"burst,omitempty" auto:"limit, at least 1" range:"1 1000000"`
	// Shape says what happens after a pause: up to burst calls go at once, or they go one by one.
	Shape string `yaml:"shape,omitempty" json:"shape,omitempty" default:"token-bucket" choices:"token-bucket leaky-bucket"`
	// MaxWait is how long a call may be held back until its turn; 0s = it is refused at once.
	MaxWait *Duration `yaml:"max_wait,omitempty" json:"max_wait,omitempty" default:"0s"`
	// Each says what has the limit: the service, or each of its methods for itself.
	Each string `yaml:"each,omitempty" json:"each,omitempty" default:"service" choices:"service method"`
}

// RetryBudget bounds how many extra attempts, retries and hedges, there may be: successes put tokens in, extra attempts take them
// out. In dry-run, attempts that it could not pay for are made and counted.
type RetryBudget struct {
	// Mode is how far it counts. Off leaves nothing but the number of attempts between a failing service and a storm of retries.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Name makes one budget of those of all services that say the same name, which have to agree on capacity, per_peak and
	// window.
	Name string `yaml:"name,omitempty" json:"name,omitempty" auto:"the service has its own"`
	// Capacity is the least number of tokens that fit in. It begins full.
	Capacity int `yaml:"capacity,omitempty" json:"capacity,omitempty" default:"1000" range:"1 1000000000"`
	// PerPeak is how many tokens fit in for each attempt in flight to one node at the peak, if that is more; 0 = the peak does not
	// count.
	PerPeak *int `yaml:"per_peak,omitempty" json:"per_peak,omitempty" default:"20" range:"0 100000"`
	// Window is how long a peak is remembered.
	Window Duration `yaml:"window,omitempty" json:"window,omitzero" default:"10s" range:"10ms 24h"`
	// Cost is how many tokens an extra attempt takes. The success of a first attempt brings one, so that 10 stand for 10 % of
	// extra attempts in the long run.
	Cost int `yaml:"cost,omitempty" json:"cost,omitempty" default:"10" range:"1 1000000"`
	// TimeoutCost is how many it takes after an attempt that timed out, which cost the service more.
	TimeoutCost int `yaml:"timeout_cost,omitempty" json:"timeout_cost,omitempty" default:"20" range:"1 1000000"`
}

// ServerLimit bounds the calls under way in a node of the service, whoever makes them. Those that find no place wait for one in a short queue, more important
// ones first, or are refused at once and told when to come back. Health checks and descriptions are always served.
type ServerLimit struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Source says where the number of places comes from: it is learned, by asking whether more places bring more throughput (two-arm), or by
	// adding places until calls come too late or get slow (aimd), or it is fixed.
	Source string `yaml:"source,omitempty" json:"source,omitempty" default:"two-arm" choices:"two-arm aimd fixed"`
	// Limit is how many calls may be under way, if the number is fixed.
	Limit int `yaml:"limit,omitempty" json:"limit,omitempty" default:"1024" range:"1 1048576"`
	// Min is the least number of places that is learned.
	Min int `yaml:"min,omitempty" json:"min,omitempty" default:"4" range:"1 131072" upto:"start max"`
	// Max is the greatest number of places that is learned.
	Max int `yaml:"max,omitempty" json:"max,omitempty" default:"10000" range:"1 131072"`
	// Start is the number of places that learning begins with.
	Start int `yaml:"start,omitempty" json:"start,omitempty" auto:"20 for each processor, within min and max" range:"1 131072" upto:"max"`
	// Slow is from how long on aimd takes an answer for a sign of overload, as it does with one that comes too late.
	Slow Duration `yaml:"slow,omitempty" json:"slow,omitzero" auto:"answers are no sign"`
	// Backoff is the share of the places that aimd keeps after a sign of overload.
	Backoff Percent `yaml:"backoff,omitempty" json:"backoff,omitzero" default:"90%" range:"1% 99%"`
	// Queue is how many may wait for a place; 0 = none.
	Queue *int `yaml:"queue,omitempty" json:"queue,omitempty" auto:"1000, or 4 × places if their number is fixed" range:"0 1048576"`
	// MaxWait is how long each may wait, but never longer than half of what is left until its deadline.
	MaxWait Duration `yaml:"max_wait,omitempty" json:"max_wait,omitzero" default:"100ms"`
	// Order says who in the queue is next among equally important calls: who came first while the queue empties now and then, and who came last
	// when it stands (codel); who came first; or who came last.
	Order string `yaml:"order,omitempty" json:"order,omitempty" default:"codel" choices:"codel fifo lifo"`
	// Target is the wait that codel tolerates in a queue that does not empty.
	Target Duration `yaml:"target,omitempty" json:"target,omitzero" default:"5ms"`
	// Interval is how long a queue must stand before codel acts.
	Interval Duration `yaml:"interval,omitempty" json:"interval,omitzero" default:"100ms"`
	// Reserve lets each method run as many critical calls as it is used to, up to an even share of the places, when other methods have taken all of
	// them.
	Reserve *bool `yaml:"reserve,omitempty" json:"reserve,omitempty" default:"true"`
	// Grace is how long after its deadline a call that still runs counts as abandoned. Its place is given back; when there are as many such calls as
	// places, the node says that it is not ready.
	Grace Duration `yaml:"grace,omitempty" json:"grace,omitzero" default:"1s" range:"1ms 1m"`
}

// ServerRate bounds how many calls each caller of a node of the service begins in a time. A caller is who its certificate says, or else its address.
type ServerRate struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Limit is how many calls each may begin within per.
	Limit float64 `yaml:"limit,omitempty" json:"limit,omitzero" auto:"no limit" range:"0.001 100000"`
	// Per is the time that limit is about.
	Per Duration `yaml:"per,omitempty" json:"per,omitzero" default:"1s" range:"1ms 24h"`
	// Burst is how many may begin at once after a pause.
	Burst int `yaml:"burst,omitempty" json:"burst,omitempty" auto:"limit, at least 1" range:"1 10000"`
	// Callers is how many callers are told apart; beyond that the one that was quiet for longest begins anew.
	Callers int `yaml:"callers,omitempty" json:"callers,omitempty" default:"4096" range:"1 1000000"`
}

// ServerPressure has a node of the service refuse less important calls while its machine is short of processor or memory: sheddable ones first, then
// sheddable-plus ones, and critical ones when memory is about to run out. It finds the share that has to go.
type ServerPressure struct {
	// Mode is how far it counts.
	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty" default:"on"`
	// Lag is how long what could run may wait for a processor.
	Lag Duration `yaml:"lag,omitempty" json:"lag,omitzero" default:"20ms" range:"1ms 10s"`
	// Throttled is the share of the time slices in which a CPU quota may stop the process.
	Throttled Percent `yaml:"throttled,omitempty" json:"throttled,omitzero" default:"50%" range:"1% 100%"`
	// Memory is the share of the memory limit, Go's or the control group's, that may be in use.
	Memory Percent `yaml:"memory,omitempty" json:"memory,omitzero" default:"85%" range:"10% 99%"`
}
