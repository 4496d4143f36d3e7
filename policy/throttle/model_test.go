package throttle

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hull-go/hull/policy"
)

// model is the throttle as its package comment says it: a list of what happened.
type model struct {
	o        Options
	happened []happening
	rejected policy.Time // the latest
}

type happening struct {
	bucket int64
	kind   int
}

const bucketLength = 1 << 29 // ns, so that its inverse is exact

func (m *model) note(now policy.Time, kind int) {
	m.happened = append(m.happened, happening{int64(now) / bucketLength, kind})
}

func (m *model) share(now policy.Time) float64 {
	var n [kinds]float64
	for _, h := range m.happened {
		if h.bucket > int64(now)/bucketLength-buckets {
			n[h.kind]++
		}
	}
	requests := n[kindAccepted] + n[kindRejected] + n[kindRefused]
	switch {
	case m.rejected == 0 || now.Sub(m.rejected) > m.o.Window, requests < float64(m.o.MinCalls):
		return 0
	}
	return min(m.o.Max, max(0, (requests-m.o.K*n[kindAccepted])/(requests+1)))
}

func (m *model) refuses(now policy.Time, u float64) bool {
	if u >= m.share(now) {
		return false
	}
	m.note(now, kindRefused)
	return true
}

// Random interleavings of calls, answers and pauses get the same decisions as from the model.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	src := rand.NewPCG(0, 0)
	rnd := rand.New(src)
	for run := range uint64(interleavings) {
		src.Seed(seed, run)
		o := Options{Window: buckets * bucketLength, K: 1 + 2*rnd.Float64(), Max: 0.5 + rnd.Float64()/2.1, MinCalls: 1 + rnd.IntN(8)}
		th := must(t, o)
		m := &model{o: o}
		now := t0
		var under int
		bad := rnd.IntN(4)
		for step := range 60 {
			if rnd.IntN(3) == 0 {
				now = now.Add(time.Duration(rnd.ExpFloat64() * float64(200*time.Millisecond)))
			}
			if rnd.IntN(40) == 0 {
				now = now.Add(time.Duration(rnd.IntN(8000)) * time.Millisecond)
			}
			if rnd.IntN(2) == 0 || under == 0 {
				draw := rnd.Uint64()
				v := th.Admit(now, only(draw), nil)
				if got, want := v.Decision == policy.Refuse, m.refuses(now, float64(draw>>11)/(1<<53)); got != want {
					t.Fatalf("seed %d run %d step %d, %+v: refused %v, the model says %v", seed, run, step, o, got, want)
				}
				if v.Decision == policy.Admit {
					under++
				}
			} else {
				under--
				outcome := policy.Outcome(rnd.IntN(5))
				if rnd.IntN(4) < bad {
					outcome = policy.Overloaded
				}
				th.Done(now, nil, policy.Permit{}, outcome)
				switch outcome {
				case policy.Success:
					m.note(now, kindAccepted)
				case policy.Overloaded:
					m.note(now, kindRejected)
					m.rejected = now
				}
			}
			if got, want := th.Snapshot(now).Share, m.share(now); got != want {
				t.Fatalf("seed %d run %d step %d, %+v: share %v, the model's %v", seed, run, step, o, got, want)
			}
		}
	}
}

// only is a source of chance that draws one number.
type only uint64

func (o only) Uint64() uint64 { return uint64(o) }
