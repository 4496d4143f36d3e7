package spec

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

func TestJudge(t *testing.T) {
	p, err := Probation{}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name          string
		before, since Tally
		bad           bool
	}{
		{"nothing at all", Tally{}, Tally{}, false},
		{"nothing before", Tally{}, Tally{1000, 1000}, false},
		{"nothing since", Tally{1000, 10}, Tally{}, false},
		{"all is well", Tally{1000, 0}, Tally{5000, 0}, false},
		{"all is bad", Tally{1000, 0}, Tally{50, 50}, true},
		{"all was bad before", Tally{1000, 1000}, Tally{5000, 5000}, false},
		{"a few failures", Tally{1000, 0}, Tally{1000, 10}, false},
		{"many", Tally{1000, 0}, Tally{1000, 50}, true},
		{"twice as many", Tally{1000, 20}, Tally{1000, 40}, false},
		{"three times as many", Tally{1000, 50}, Tally{1000, 150}, true},
		{"the first calls fail", Tally{1000, 0}, Tally{9, 9}, false},
		{"one call before", Tally{1, 0}, Tally{1000, 900}, false}, // which says nothing
		{"fewer fail", Tally{1000, 500}, Tally{1000, 100}, false},
	}
	for _, tt := range tests {
		err := p.Judge(tt.before, tt.since)
		if (err != nil) != tt.bad || err != nil && !errors.Is(err, ErrTakenBack) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestJudgeIsFair: a document that changes nothing is kept, however often one looks, whatever the share of calls that fail anyway.
func TestJudgeIsFair(t *testing.T) {
	p, _ := Probation{}.Complete()
	rnd := rand.New(rand.NewPCG(7, 7))
	for run := range 400 {
		share := math.Pow(rnd.Float64(), 3)
		calls := func(n int) (t Tally) {
			for range n {
				t.Calls++
				if rnd.Float64() < share {
					t.Failures++
				}
			}
			return t
		}
		before, since := calls(200+rnd.IntN(500)), Tally{}
		for range 50 {
			more := calls(20)
			since.Calls, since.Failures = since.Calls+more.Calls, since.Failures+more.Failures
			if err := p.Judge(before, since); err != nil {
				t.Fatalf("run %d, share %.3f: %v", run, share, err)
			}
		}
	}
}

func TestProbationOptions(t *testing.T) {
	for _, p := range []Probation{{Before: -1}, {For: -1}, {Factor: 0.5}, {Factor: math.NaN()}, {MinFailures: -1}} {
		if _, err := p.Complete(); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
}
