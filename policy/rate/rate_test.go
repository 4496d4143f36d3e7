package rate

import (
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

const t0 = policy.Time(1_700_000_000 * time.Second)

func at(d time.Duration) policy.Time { return t0.Add(d) }

func must(t testing.TB, o Options) *Limiter {
	t.Helper()
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func admit(t *testing.T, l *Limiter, now policy.Time, c *policy.Call, want policy.Decision) policy.Verdict {
	t.Helper()
	v := l.Admit(now, nil, c)
	if v.Decision != want {
		t.Fatalf("%+v, want decision %d", v, want)
	}
	return v
}

func TestTokenBucket(t *testing.T) {
	l := must(t, Options{Limit: 10, Burst: 3})
	for range 3 {
		admit(t, l, t0, nil, policy.Admit)
	}
	v := admit(t, l, t0, nil, policy.Refuse)
	if v.At != at(100*time.Millisecond) || v.State != "exhausted" || v.Reason == "" {
		t.Errorf("%+v, want to come back in 100ms", v)
	}
	admit(t, l, v.At-1, nil, policy.Refuse)
	admit(t, l, v.At, nil, policy.Admit)
	admit(t, l, v.At, nil, policy.Refuse)
	if n := l.Left(at(time.Hour), nil); n != 3 {
		t.Errorf("%d left after an hour, want 3", n)
	}
	if s := l.Snapshot(); s.Refused != 3 || s.Limit != 10 || s.Burst != 3 || s.Per != time.Second {
		t.Errorf("%+v", s)
	}
}

func TestLeakyBucketQueues(t *testing.T) {
	l := must(t, Options{Limit: 10, Shape: LeakyBucket, MaxWait: 300 * time.Millisecond})
	admit(t, l, t0, nil, policy.Admit)
	for i := range 3 {
		if v := admit(t, l, t0, nil, policy.Wait); v.At != at(time.Duration(i+1)*100*time.Millisecond) {
			t.Errorf("%d goes at %v", i, v.At.Sub(t0))
		}
	}
	if v := admit(t, l, t0, nil, policy.Refuse); v.At != at(100*time.Millisecond) {
		t.Errorf("%+v, want to come back when there is room to wait", v)
	}
	// However long the pause, one by one.
	later := at(time.Hour)
	admit(t, l, later, nil, policy.Admit)
	admit(t, l, later, nil, policy.Wait)
}

func TestDefaults(t *testing.T) {
	for _, tt := range []struct {
		o     Options
		burst int
	}{
		{Options{Limit: 5}, 5},
		{Options{Limit: 0.5}, 1},
		{Options{Limit: 2.5, Per: time.Minute}, 3},
		{Options{Limit: 50, Shape: LeakyBucket}, 1},
		{Options{Limit: 1, Per: 365 * 24 * time.Hour}, 1},
	} {
		l := must(t, tt.o)
		for range tt.burst {
			admit(t, l, t0, nil, policy.Admit)
		}
		admit(t, l, t0, nil, policy.Refuse)
	}
}

func TestWhatComesBack(t *testing.T) {
	o := Options{Limit: 10, Burst: 1, MaxWait: time.Second}
	t.Run("latest", func(t *testing.T) {
		l := must(t, o)
		admit(t, l, t0, nil, policy.Admit)
		v := admit(t, l, t0, nil, policy.Wait)
		l.Done(at(50*time.Millisecond), nil, v.Permit, policy.Ignored)
		if again := admit(t, l, at(60*time.Millisecond), nil, policy.Wait); again.At != v.At {
			t.Errorf("the next goes at %v, want %v", again.At.Sub(t0), v.At.Sub(t0))
		}
	})
	t.Run("in the middle", func(t *testing.T) {
		l := must(t, o)
		admit(t, l, t0, nil, policy.Admit)
		one := admit(t, l, t0, nil, policy.Wait)
		two := admit(t, l, t0, nil, policy.Wait)
		l.Done(t0, nil, one.Permit, policy.Ignored)
		if v := admit(t, l, t0, nil, policy.Wait); v.At != one.At {
			t.Errorf("goes at %v, want the place that was given back", v.At.Sub(t0))
		}
		if v := admit(t, l, t0, nil, policy.Wait); v.At != two.At.Add(100*time.Millisecond) {
			t.Errorf("goes at %v, want behind the last", v.At.Sub(t0))
		}
	})
	t.Run("refused further on", func(t *testing.T) {
		l := must(t, Options{Limit: 10, Burst: 1})
		for range 100 {
			v := admit(t, l, t0, nil, policy.Admit)
			l.Done(t0, nil, v.Permit, policy.Ignored)
		}
		if s := l.Snapshot(); s.Returned != 100 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("cancelled after it began", func(t *testing.T) {
		l := must(t, Options{Limit: 10, Burst: 1})
		v := admit(t, l, t0, nil, policy.Admit)
		l.Done(t0+1, nil, v.Permit, policy.Ignored)
		admit(t, l, t0+1, nil, policy.Refuse)
	})
	t.Run("success", func(t *testing.T) {
		l := must(t, Options{Limit: 10, Burst: 1})
		v := admit(t, l, t0, nil, policy.Admit)
		l.Done(t0, nil, v.Permit, policy.Success)
		admit(t, l, t0, nil, policy.Refuse)
	})
}

func TestKeysHaveTheirOwnBuckets(t *testing.T) {
	calls := []policy.Call{
		{Service: "a", Method: "bc", Hash: 1},
		{Service: "ab", Method: "c", Hash: 2},
		{Service: "ab", Method: "a-method-with-a-name-longer-than-two-words", Hash: 3},
		{Service: "ab", Method: "a-method-with-a-name-longer-than-two-wordz", Hash: 4},
	}
	for name, tt := range map[string]struct {
		key      Key
		distinct int
	}{
		"hash":    {ByHash(), 4},
		"service": {ByService(), 2},
		"method":  {ByMethod(), 4},
		"number":  {ByNumber(func(c *policy.Call) uint64 { return uint64(len(c.Method)) % 2 }), 2},
		"string":  {ByString(func(c *policy.Call) string { return c.Method }), 4},
	} {
		t.Run(name, func(t *testing.T) {
			l := must(t, Options{Limit: 1, Key: tt.key})
			went := 0
			for range 3 {
				for i := range calls {
					if l.Admit(t0, nil, &calls[i]).Decision == policy.Admit {
						went++
					}
				}
			}
			if s := l.Snapshot(); went != tt.distinct || s.Keys != tt.distinct || s.Forgotten != 0 {
				t.Errorf("%d went, %+v, want %d", went, s, tt.distinct)
			}
		})
	}
}

func TestACallIsOptional(t *testing.T) {
	l := must(t, Options{Limit: 1, Key: ByMethod()})
	admit(t, l, t0, nil, policy.Admit)
	admit(t, l, t0, nil, policy.Refuse)
}

// As many keys as asked for keep their state; with more the idlest go first and memory stays as it was.
func TestKeysAreBounded(t *testing.T) {
	l := must(t, Options{Limit: 1, Key: ByHash(), Keys: 1000, Seed: 1})
	c := &policy.Call{}
	for c.Hash = 1; c.Hash <= 1000; c.Hash++ {
		admit(t, l, t0, c, policy.Admit)
	}
	kept := 0
	for c.Hash = 1; c.Hash <= 1000; c.Hash++ {
		if l.Left(t0, c) == 0 {
			kept++
		}
	}
	s := l.Snapshot()
	if kept < 980 || int(s.Forgotten) != 1000-kept {
		t.Errorf("%d of 1000 kept, %+v", kept, s)
	}
	places := s.Places
	for c.Hash = 1; c.Hash <= 100_000; c.Hash++ {
		l.Admit(at(2*time.Second), nil, c)
	}
	if s := l.Snapshot(); s.Places != places || s.Keys > places || s.Forgotten < 90_000 {
		t.Errorf("%+v", s)
	}
}

// A key that used nothing of late loses nothing when its place is taken.
func TestIdleKeysGoFirst(t *testing.T) {
	l := must(t, Options{Limit: 1, Key: ByHash(), Keys: 1})
	busy := &policy.Call{Hash: 1}
	now := t0
	admit(t, l, now, busy, policy.Admit)
	for i := range uint64(100) {
		now = now.Add(time.Second)
		admit(t, l, now, busy, policy.Admit)
		for j := range uint64(3) {
			l.Admit(now, nil, &policy.Call{Hash: 10 + 3*i + j})
		}
		admit(t, l, now, busy, policy.Refuse)
	}
	if s := l.Snapshot(); s.Forgotten != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSetLimitKeepsWhatWasUsed(t *testing.T) {
	for name, key := range map[string]Key{"one": {}, "keys": ByHash()} {
		t.Run(name, func(t *testing.T) {
			l := must(t, Options{Limit: 10, Burst: 10, MaxWait: time.Minute, Key: key})
			c := &policy.Call{Hash: 7}
			for range 6 {
				admit(t, l, t0, c, policy.Admit)
			}
			if err := l.SetLimit(t0, 1, 10); err != nil {
				t.Fatal(err)
			}
			if n := l.Left(t0, c); n != 4 {
				t.Errorf("%d left of 10 of which 6 were used", n)
			}
			for range 4 {
				admit(t, l, t0, c, policy.Admit)
			}
			old := admit(t, l, t0, c, policy.Wait)
			if old.At != at(time.Second) {
				t.Errorf("goes at %v, want at the new pace", old.At.Sub(t0))
			}
			if err := l.SetLimit(t0, 100, 0); err != nil {
				t.Fatal(err)
			}
			l.Done(t0, nil, old.Permit, policy.Ignored) // of another pace: harmless
			if n := l.Left(t0, c); n != 89 {
				t.Errorf("%d left of 100 of which 11 were used", n)
			}
			if err := l.SetLimit(t0, -1, 0); err == nil {
				t.Error("a negative limit is no error")
			}
			if s := l.Snapshot(); s.Limit != 100 || s.Burst != 100 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A clock that went ahead for a moment does not close the bucket for as long.
func TestClockThatJumps(t *testing.T) {
	l := must(t, Options{Limit: 10, Burst: 2})
	admit(t, l, at(24*time.Hour), nil, policy.Admit)
	admit(t, l, at(24*time.Hour), nil, policy.Admit)
	admit(t, l, at(24*time.Hour), nil, policy.Refuse)
	v := admit(t, l, t0, nil, policy.Refuse)
	if v.At.Sub(t0) > 100*time.Millisecond {
		t.Errorf("to come back in %v", v.At.Sub(t0))
	}
	admit(t, l, v.At, nil, policy.Admit)
}

func TestWrongOptions(t *testing.T) {
	_, err := New(Options{Limit: math.NaN(), Per: -1, Burst: -1, Shape: 9, MaxWait: -1, Keys: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"rate: ", "Limit", "Per", "Burst", "Shape", "MaxWait", "Keys"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
	for _, o := range []Options{
		{}, {Limit: -3}, {Limit: math.Inf(1)}, {Limit: 1e9}, {Limit: 1, Per: 24 * time.Hour, Burst: 1 << 30}, {Limit: 2, Burst: 2, Shape: LeakyBucket},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("no error for %+v", o)
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	for name, key := range map[string]Key{
		"one": {}, "hash": ByHash(), "method": ByMethod(), "string": ByString(func(c *policy.Call) string { return c.Method }),
	} {
		l := must(t, Options{Limit: 1000, Burst: 1, MaxWait: time.Second, Key: key, Keys: 4})
		c := &policy.Call{Service: "greeter", Method: "greeter.Greeter/Hello"}
		now := t0
		if n := testing.AllocsPerRun(1000, func() {
			c.Hash++
			now += 1000
			v := l.Admit(now, nil, c)
			w := l.Admit(now, nil, c)
			l.Done(now, nil, w.Permit, policy.Ignored)
			l.Done(now, nil, v.Permit, policy.Success)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Together they get what was promised and not one more, with and without keys, while other keys come and go.
func TestParallel(t *testing.T) {
	const each = 20_000
	for name, key := range map[string]Key{"one": {}, "keys": ByHash()} {
		t.Run(name, func(t *testing.T) {
			l := must(t, Options{Limit: 1000, Burst: 50, Key: key, Keys: 64})
			var went atomic.Int64
			var wg sync.WaitGroup
			for g := range uint64(8) {
				wg.Go(func() {
					mine := &policy.Call{Hash: 1}
					other := &policy.Call{}
					for i := range uint64(each) {
						now := t0.Add(time.Duration(i) * 10 * time.Microsecond) // 200 ms in all
						v := l.Admit(now, nil, mine)
						switch {
						case v.Decision != policy.Admit:
						case i%7 == g%7:
							l.Done(now, nil, v.Permit, policy.Ignored)
						default:
							went.Add(1)
							l.Done(now, nil, v.Permit, policy.Success)
						}
						if other.Hash = 2 + i%40; i%16 == 0 {
							l.Admit(now, nil, other)
						}
					}
				})
			}
			wg.Wait()
			// Leave that is given back by who is behind in time may be too late for the others.
			if n := went.Load(); n < 200 || n > 251 {
				t.Errorf("%d went in 200ms at 1000/s with a burst of 50, want 250 or a few less", n)
			}
		})
	}
}

// Hashes spread: no set gets much more than its share, for keys that differ in little.
func TestHashesSpread(t *testing.T) {
	for name, h := range map[string]func(i int) uint64{
		"numbers":  func(i int) uint64 { return hashNumber(5, uint64(i)) },
		"multiple": func(i int) uint64 { return hashNumber(5, uint64(i)<<32) },
		"short":    func(i int) uint64 { return hashString(5, strconv.Itoa(i)) },
		"long":     func(i int) uint64 { return hashString(5, "some-tenant/"+strconv.Itoa(i)+"/with-a-long-tail-behind-it") },
	} {
		const n, sets = 64_000, 64
		var count [sets]int
		seen := map[uint64]bool{}
		for i := range n {
			seen[h(i)] = true
			count[h(i)%sets]++
		}
		if len(seen) != n {
			t.Errorf("%s: %d of %d are distinct", name, len(seen), n)
		}
		for _, c := range count {
			if c < 850 || c > 1150 { // 1000 ± 4.7σ
				t.Errorf("%s: %d in one of %d sets, want about %d", name, c, sets, n/sets)
			}
		}
	}
}
