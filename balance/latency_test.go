package balance

import (
	"math"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

func TestLatencyEstimate(t *testing.T) {
	const ms = time.Millisecond
	near := func(what string, got, want time.Duration) {
		t.Helper()
		if math.Abs(float64(got-want)) > 0.03*float64(want) {
			t.Errorf("%s: %v, want about %v", what, got, want)
		}
	}
	d := newDriver(t, Options{}, fleet(5)...)
	for range 20 {
		for _, n := range d.p.Nodes() {
			if n.ID() != "n04" {
				d.force(n.ID(), 10*ms, policy.ClassOK)
			}
		}
	}
	d.wait(time.Second)
	d.call(10*ms, policy.ClassOK)
	near("a node without answers stands where the fleet's median is", d.node("n04").Latency(d.now), 10*ms)

	n := d.node("n00")
	d.force("n00", 100*ms, policy.ClassOK)
	near("a peak counts at once", n.Latency(d.now), 100*ms)
	d.force("n00", ms, policy.ClassOK)
	near("one quick answer hardly lowers it", n.Latency(d.now), 100*ms)
	for _, class := range []policy.Class{policy.ClassCancelled, policy.ClassLoser, policy.ClassDeadlineSoon} {
		before := n.Latency(d.now)
		for range 1000 {
			d.force("n00", ms/3, class)
		}
		near("short ones of class "+class.String()+" lower nothing", n.Latency(d.now), before)
	}
	d.force("n00", 200*ms, policy.ClassLoser)
	near("a long one raises", n.Latency(d.now), 200*ms)
	d.wait(10 * time.Second)
	near("after 10 s idle a part 1/e of what is above the median is left", n.Latency(d.now), 10*ms+190*ms*1000/2718)
	d.wait(time.Minute)
	near("after a minute it is the median", n.Latency(d.now), 10*ms)

	d.force("n01", ms, policy.ClassShed)
	near("a full node counts as p99, however quickly it says so", d.node("n01").Latency(d.now), time.Duration(d.p.tail()))
	d.force("n02", ms, policy.ClassInternal)
	if got := d.node("n02").Latency(d.now); got < time.Duration(d.p.tail()) {
		t.Errorf("a quick failure counts as %v, less than the p99 %v", got, time.Duration(d.p.tail()))
	}
	before := d.node("n03").Latency(d.now)
	d.p.Done(d.now, d.rnd, d.node("n03"), policy.Permit{Start: d.now}, policy.Ended{Class: policy.ClassOK, Took: time.Hour, Untimed: true})
	near("a stream says nothing about latency", d.node("n03").Latency(d.now), before)
}

// TestLatencyWithoutSuccess: where nothing ever succeeds estimates stay finite.
func TestLatencyWithoutSuccess(t *testing.T) {
	d := newDriver(t, Options{}, fleet(3)...)
	for range 3000 {
		d.call(10*time.Millisecond, policy.ClassUnavailable)
		d.wait(100 * time.Millisecond)
	}
	for _, n := range d.p.Nodes() {
		if got := n.Latency(d.now); got <= 0 || got > 5*time.Minute {
			t.Errorf("after a thousand failures and no success %s is taken to need %v", n.ID(), got)
		}
	}
}

func TestBucketsAreContiguous(t *testing.T) {
	for i := range bucketCount - 1 {
		end := bucketEnd(i)
		if a, b := bucketOf(end-1), bucketOf(end); a != i || b != i+1 {
			t.Errorf("bucket %d ends at %v, but what is shorter lies in %d and the end itself in %d", i, end, a, b)
		}
	}
	for _, d := range []time.Duration{math.MinInt64, -1, 0, 1, math.MaxInt64} {
		if i := bucketOf(d); i < 0 || i >= bucketCount {
			t.Errorf("%d ns lies in bucket %d of %d", d, i, bucketCount)
		}
	}
}

func TestQuantile(t *testing.T) {
	var counts [bucketCount]float64
	for i := 1; i <= 1000; i++ {
		counts[bucketOf(time.Duration(i)*time.Millisecond)]++
	}
	for _, q := range []float64{0.5, 0.9, 0.99} {
		exact := time.Duration(q * float64(time.Second))
		if got := quantile(&counts, q, 20); got < exact || float64(got) > 1.25*float64(exact) {
			t.Errorf("quantile %v of 1 … 1000 ms is %v", q, got)
		}
	}
	if got := quantile(&counts, 0.99, 2000); got != 0 {
		t.Errorf("of too few counts: %v", got)
	}
}
