package quantile

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hull-go/hull/internal/stripe"
	"github.com/hull-go/hull/policy"
)

const tolerance = 0.06

func newEstimator(t testing.TB, o Options) *Estimator {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Window: -1}, {Slices: -1}, {Slices: MaxSlices + 1}, {Window: 4, Slices: 5}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// TestBuckets checks that buckets follow each other without gaps and that their value is never more than 6 % off.
func TestBuckets(t *testing.T) {
	last := -1
	for d := Least; d <= Most; d += max(1, d/1000) {
		i := bucket(d)
		if i != last && i != last+1 {
			t.Fatalf("%v is in bucket %d after %d", d, i, last)
		}
		last = i
		if off := math.Abs(float64(value(i)-d)) / float64(d); off > tolerance {
			t.Fatalf("%v is told as %v: %.1f %% off", d, value(i), 100*off)
		}
	}
	if last != bucket(Most) || bucket(time.Hour) != bucket(Most) || bucket(-1) != 0 || bucket(0) != 0 || last >= buckets {
		t.Fatalf("the ends: %d of %d, %d, %d", last, buckets, bucket(time.Hour), bucket(0))
	}
}

// latencies returns n samples of one of several shapes.
func latencies(r *rand.Rand, n int) []time.Duration {
	shape, scale := r.IntN(4), math.Exp(r.Float64()*10)*float64(10*time.Microsecond)
	out := make([]time.Duration, n)
	for i := range out {
		var x float64
		switch shape {
		case 0:
			x = r.Float64()
		case 1:
			x = r.ExpFloat64()
		case 2:
			x = math.Exp(r.NormFloat64())
		case 3: // two humps
			x = 0.1 + 0.01*r.Float64()
			if r.IntN(10) == 0 {
				x *= 50
			}
		}
		out[i] = min(max(time.Duration(x*scale), Least), Most)
	}
	return out
}

// exact returns the q-quantile of sorted values by nearest rank.
func exact(sorted []time.Duration, q float64) time.Duration {
	rank := int(math.Ceil(q*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

var quantiles = []float64{0, 0.01, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1}

func TestAgainstExact(t *testing.T) {
	for range 300 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		samples := latencies(r, 1+r.IntN(2000))
		e := newEstimator(t, Options{})
		for i, d := range samples {
			e.Observe(policy.Time(i)*policy.Time(7*time.Second)/2000, d)
		}
		slices.Sort(samples)
		for _, q := range quantiles {
			got, censored, n := e.Quantile(policy.Time(7*time.Second), q)
			want := exact(samples, q)
			if off := math.Abs(float64(got-want)) / float64(want); off > tolerance || censored || n != len(samples) {
				t.Fatalf("seed %d: q=%v of %d: %v, censored %v, n %d; exactly %v", seed, q, len(samples), got, censored, n, want)
			}
		}
	}
}

// TestNever checks that samples without an end count as longer than all others.
func TestNever(t *testing.T) {
	for range 300 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		all := latencies(r, 1+r.IntN(500))
		timeout := all[r.IntN(len(all))]
		e := newEstimator(t, Options{})
		for _, d := range all {
			if d > timeout {
				e.Never(1, timeout)
			} else {
				e.Observe(1, d)
			}
		}
		slices.Sort(all)
		for _, q := range quantiles {
			got, censored, n := e.Quantile(1, q)
			want := exact(all, q)
			if censored != (want > timeout) || n != len(all) {
				t.Fatalf("seed %d: q=%v: %v, censored %v, n %d; exactly %v, timeout %v", seed, q, got, censored, n, want, timeout)
			}
			want = min(want, timeout)
			if off := math.Abs(float64(got-want)) / float64(want); off > tolerance {
				t.Fatalf("seed %d: q=%v: %v, want %v", seed, q, got, want)
			}
		}
	}
}

// TestAtLeast gives up a quarter of all calls at random moments: the estimate must still be that of the calls themselves.
func TestAtLeast(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	e, naive := newEstimator(t, Options{}), newEstimator(t, Options{})
	var all []time.Duration
	for range 50_000 {
		d := time.Duration(r.ExpFloat64() * float64(10*time.Millisecond))
		all = append(all, d)
		if patience := time.Duration(r.ExpFloat64() * float64(30*time.Millisecond)); patience < d {
			e.AtLeast(1, patience)
		} else {
			e.Observe(1, d)
			naive.Observe(1, d)
		}
	}
	slices.Sort(all)
	for _, q := range []float64{0.5, 0.9, 0.95, 0.99} {
		got, censored, n := e.Quantile(1, q)
		want := exact(all, q)
		if off := math.Abs(float64(got-want)) / float64(want); off > 0.15 || censored || n != len(all) {
			t.Errorf("q=%v: %v, censored %v, n %d; exactly %v", q, got, censored, n, want)
		}
		if d, _, _ := naive.Quantile(1, q); d > want*85/100 {
			t.Errorf("q=%v: leaving them out gives %v, of %v: this test shows nothing", q, d, want)
		}
	}
}

func TestEdges(t *testing.T) {
	const ms = time.Millisecond
	type sample struct {
		kind byte // o, a, n
		d    time.Duration
	}
	tests := []struct {
		name     string
		samples  []sample
		q        float64
		want     time.Duration
		censored bool
	}{
		{"nothing", nil, 0.5, 0, false},
		{"one", []sample{{'o', ms}}, 0.99, ms, false},
		{"only timeouts", []sample{{'n', 8 * ms}, {'n', 2 * ms}}, 0.01, 8 * ms, true},
		{"only bounds", []sample{{'a', 2 * ms}, {'a', 8 * ms}}, 0.5, 8 * ms, true},
		{"bounds below are handed on", []sample{{'a', ms}, {'a', ms}, {'o', 8 * ms}}, 0.01, 8 * ms, false},
		{"a bound above all", []sample{{'o', ms}, {'a', 8 * ms}}, 0.9, 8 * ms, true},
		{"the known half", []sample{{'o', ms}, {'n', 8 * ms}}, 0.5, ms, false},
		{"an end comes before a bound of the same length", []sample{{'o', ms}, {'a', ms}}, 0.5, ms, false},
		{"far too short", []sample{{'o', 0}}, 0.5, Least, false},
		{"far too long", []sample{{'o', time.Hour}}, 0.5, Most, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEstimator(t, Options{})
			for _, s := range tt.samples {
				map[byte]func(policy.Time, time.Duration){'o': e.Observe, 'a': e.AtLeast, 'n': e.Never}[s.kind](1, s.d)
			}
			d, censored, n := e.Quantile(1, tt.q)
			if math.Abs(float64(d-tt.want)) > tolerance*float64(tt.want) || censored != tt.censored || n != len(tt.samples) {
				t.Fatalf("%v, censored %v, n %d; want %v, %v", d, censored, n, tt.want, tt.censored)
			}
		})
	}
}

func TestWindow(t *testing.T) {
	e := newEstimator(t, Options{Window: 10 * time.Second, Slices: 5})
	at := func(s float64) policy.Time {
		return policy.Time(1e18).Add(time.Duration(s * float64(time.Second)))
	}
	count := func(s float64, want int) {
		t.Helper()
		if _, _, n := e.Quantile(at(s), 0.5); n != want {
			t.Fatalf("%d samples after %v s, want %d", n, s, want)
		}
	}
	for s := range 20 {
		e.Observe(at(float64(s)), time.Millisecond)
		e.AtLeast(at(float64(s)), time.Millisecond)
		e.Never(at(float64(s)), time.Millisecond)
	}
	count(19, 30)
	e.Observe(at(9.5), time.Millisecond) // older than the window: dropped
	count(19, 30)
	e.Observe(at(11), time.Millisecond) // late, but within
	count(19, 31)
	count(20.5, 24)
	count(27.9, 6)
	count(28, 0)
	e.Never(at(1000), time.Second)
	if d, censored, n := e.Quantile(at(1000), 0.5); !censored || n != 1 || math.Abs(float64(d-time.Second)) > tolerance*1e9 {
		t.Fatal(d, censored, n)
	}
}

func TestConcurrent(t *testing.T) {
	e := newEstimator(t, Options{Window: 50, Slices: 5})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				now := policy.Time(i / 10)
				switch (i + w) % 4 {
				case 0:
					e.AtLeast(now, time.Millisecond)
				case 1:
					e.Never(now, 2*time.Millisecond)
				case 2:
					e.Observe(now, time.Millisecond)
				default:
					if d, _, n := e.Quantile(now, 0.5); n > 0 && d != value(bucket(time.Millisecond)) && d != value(bucket(2*time.Millisecond)) {
						t.Errorf("%v of %d", d, n)
					}
				}
			}
		})
	}
	wg.Wait()
	f := newEstimator(t, Options{})
	for range 4 {
		wg.Go(func() {
			for range 5000 {
				f.Observe(1, time.Millisecond)
			}
		})
	}
	wg.Wait()
	if _, _, n := f.Quantile(1, 0.5); n != 20000 {
		t.Fatalf("%d samples, want 20000", n)
	}
}

// Once an estimator has been busy for a window it allocates nothing any more.
func TestAllocatesNothing(t *testing.T) {
	e, now := newEstimator(t, Options{}), policy.Time(0)
	busy := func() {
		now = now.Add(time.Second)
		for range few {
			e.Observe(now, time.Millisecond)
			e.AtLeast(now, time.Millisecond)
		}
		e.Never(now, time.Millisecond)
		e.Quantile(now, 0.99)
	}
	for range 20 {
		busy()
	}
	if n := testing.AllocsPerRun(100, busy); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// tables is how many tables e holds.
func tables(e *Estimator) (n int) {
	for i := range e.ring {
		if e.ring[i].seen.Load() != nil {
			n++
		}
		if e.ring[i].least.Load() != nil {
			n++
		}
	}
	return n
}

// An estimator that sees little has no tables, one that sees much has, and gives them back when it sees little again.
func TestTablesAreForTheBusy(t *testing.T) {
	e := newEstimator(t, Options{Window: 50, Slices: 5})
	for now := policy.Time(0); now < 1000; now += 10 {
		for range few {
			e.Observe(now, time.Millisecond)
		}
	}
	if n := tables(e); n != 0 {
		t.Fatalf("%d tables for %d samples in each slice", n, few)
	}
	for now := policy.Time(1000); now < 1100; now += 10 {
		for range 3 * few {
			e.Observe(now, time.Millisecond)
		}
	}
	if n := tables(e); n != 5 {
		t.Fatalf("%d tables of a busy estimator with 5 slices", n)
	}
	if _, _, n := e.Quantile(1099, 0.5); n != 5*3*few {
		t.Fatalf("%d samples", n)
	}
	for now := policy.Time(1100); now < 1300; now += 10 {
		e.Observe(now, time.Millisecond)
	}
	if n := tables(e); n != 0 {
		t.Fatalf("%d tables are kept for one sample in each slice", n)
	}
}

// Where processors meet, each counts in a table of its own: nothing is lost, and the tables go when they are no longer needed.
func TestTablesOfTheirOwn(t *testing.T) {
	e := newEstimator(t, Options{Window: 50, Slices: 5})
	s := e.at(0)
	s.spread.Store(new([stripe.N]table)) // as if they had met, which a single processor's never do
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range often {
				e.Observe(3, time.Millisecond)
			}
		})
	}
	wg.Wait()
	e.AtLeast(4, 2*time.Millisecond)
	if d, _, n := e.Quantile(5, 0.5); n != 8*often+1 || d != value(bucket(time.Millisecond)) {
		t.Errorf("%v of %d samples, want 1ms of %d", d, n, 8*often+1)
	}
	e.Observe(50, time.Millisecond) // the slice's next turn
	if _, _, n := e.Quantile(50, 0.5); n != 1 || s.spread.Load() == nil {
		t.Errorf("%d samples when the window had passed, want 1; tables kept: %t", n, s.spread.Load() != nil)
	}
	e.Observe(100, time.Millisecond)
	if _, _, n := e.Quantile(100, 0.5); n != 1 || s.spread.Load() != nil {
		t.Errorf("%d samples, want 1; tables that nobody used kept: %t", n, s.spread.Load() != nil)
	}
}

// Lists and tables say the same: samples of all kinds, split differently over slices, have one histogram.
func TestListsCountAsTables(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 6 * few {
		spread, packed := newEstimator(t, Options{Window: 64, Slices: 64}), newEstimator(t, Options{Window: 64, Slices: 1})
		for i, d := range latencies(r, n) {
			f := [](func(*Estimator, policy.Time)){
				func(e *Estimator, now policy.Time) { e.Observe(now, d) },
				func(e *Estimator, now policy.Time) { e.AtLeast(now, d) },
				func(e *Estimator, now policy.Time) { e.Never(now, d) },
			}[r.IntN(3)]
			f(spread, policy.Time(i))
			f(packed, policy.Time(i))
		}
		var a, b Histogram
		spread.Snapshot(63, &a)
		packed.Snapshot(63, &b)
		if a != b || a.N() != n {
			t.Fatalf("%d samples: %d spread over slices, %d in one", n, a.N(), b.N())
		}
	}
}

// Whatever slices, lists and tables hold or have forgotten, all that was observed is counted, and nothing else.
func TestObserved(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	e := newEstimator(t, Options{Window: 50, Slices: 5})
	now, want := policy.Time(0), int64(0)
	for i := range 20_000 {
		now += policy.Time(r.IntN(3) * r.IntN(2))
		if r.IntN(500) == 0 {
			now += policy.Time(r.IntN(200))
		}
		d := time.Duration(r.IntN(1e6))
		switch r.IntN(4) {
		case 0:
			e.AtLeast(now, d)
		case 1:
			e.Never(now, d)
		default:
			e.Observe(now, d)
			want++
		}
		if i == 7000 {
			e.at(now).spread.Store(new([stripe.N]table)) // as if processors had met
		}
		if got := e.Observed(); i%97 == 0 && got != want {
			t.Fatalf("%d of %d after %d samples", got, want, i)
		}
	}
}

func TestLongest(t *testing.T) {
	e := newEstimator(t, Options{})
	longest := func() time.Duration {
		var h Histogram
		e.Snapshot(1e9, &h)
		return h.Longest()
	}
	if d := longest(); d != 0 {
		t.Errorf("of none it is %v", d)
	}
	e.AtLeast(1e9, 20*time.Second)
	e.Never(1e9, 30*time.Second)
	if d := longest(); d != 0 {
		t.Errorf("no end was seen: %v", d)
	}
	for range 20 { // more than fit into a list
		e.Observe(1e9, time.Millisecond)
		e.Observe(1e9, time.Second)
	}
	if d := longest(); d < 940*time.Millisecond || d > 1060*time.Millisecond {
		t.Errorf("%v, want about 1s", d)
	}
}

func BenchmarkObserve(b *testing.B) {
	e := newEstimator(b, Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		now := policy.Time(1e18)
		for d := time.Microsecond; pb.Next(); d += 3 * time.Microsecond {
			now += 1000
			e.Observe(now, d&(1<<24-1))
		}
	})
}

func BenchmarkQuantile(b *testing.B) {
	e := newEstimator(b, Options{})
	r := rand.New(rand.NewPCG(1, 2))
	for i, d := range latencies(r, 10000) {
		e.Observe(policy.Time(i)*1e6, d)
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Quantile(1e10-1, 0.99)
	}
}
