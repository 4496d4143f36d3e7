package rolling

import (
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
)

// window is how many seconds a Number looks back.
const window = 10

// Number is a value per second over the last ten seconds. It is made by NewNumber and safe for concurrent use.
type Number struct {
	// Buckets are the values by Unix second. Whoever looks at them holds Mutex.
	Buckets map[int64]*numberBucket
	Mutex   *sync.RWMutex

	// The bucket of the latest second, so that most calls find it without a search. Mutex guards it.
	second  int64
	current *numberBucket
}

type numberBucket struct {
	Value float64
}

// NewNumber returns an empty Number.
func NewNumber() *Number {
	return &Number{Buckets: make(map[int64]*numberBucket), Mutex: &sync.RWMutex{}}
}

// second is the Unix second of t.
func second(t policy.Time) int64 { return int64(t) / int64(time.Second) }

// bucket returns the bucket of second s. The mutex is held.
func (r *Number) bucket(s int64) *numberBucket {
	if s == r.second && r.current != nil {
		return r.current
	}
	for at := range r.Buckets {
		if at <= s-window {
			delete(r.Buckets, at)
		}
	}
	b := r.Buckets[s]
	if b == nil {
		b = &numberBucket{}
		r.Buckets[s] = b
	}
	r.second, r.current = s, b
	return b
}

// Increment adds i to the current second.
func (r *Number) Increment(i float64) {
	if i == 0 {
		return
	}
	s := second(policy.Now())
	r.Mutex.Lock()
	r.bucket(s).Value += i
	r.Mutex.Unlock()
}

// UpdateMax makes n the current second's value if it is more.
func (r *Number) UpdateMax(n float64) {
	s := second(policy.Now())
	r.Mutex.Lock()
	b := r.bucket(s)
	b.Value = max(b.Value, n)
	r.Mutex.Unlock()
}

// Sum adds up the ten seconds that end with now.
func (r *Number) Sum(now time.Time) float64 {
	sum := 0.0
	r.each(now, func(v float64) { sum += v })
	return sum
}

// Max returns the largest value of the ten seconds that end with now, and at least 0.
func (r *Number) Max(now time.Time) float64 {
	most := 0.0
	r.each(now, func(v float64) { most = max(most, v) })
	return most
}

// Avg returns the mean value per second of the ten seconds that end with now; seconds without a value count as 0.
func (r *Number) Avg(now time.Time) float64 {
	return r.Sum(now) / window
}

func (r *Number) each(now time.Time, f func(float64)) {
	s := second(policy.At(now))
	r.Mutex.RLock()
	defer r.Mutex.RUnlock()
	for at, b := range r.Buckets {
		if at > s-window {
			f(b.Value)
		}
	}
}
