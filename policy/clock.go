package policy

import "time"

// epoch pairs a wall-clock reading with a monotonic one; it is read only.
var epoch = time.Now()

var epochUnix = epoch.UnixNano()

// Now reads the clock. It belongs to executors: decisions are given the time.
func Now() Time { return Time(epochUnix + int64(time.Since(epoch))) }

// At converts a time.Time, as a context's deadline has it. The zero time becomes never; what is before 1970 or after 2262 becomes the first or the
// last moment that a Time can be.
func At(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return max(Time(epochUnix).Add(t.Sub(epoch)), 1)
}

// Clock returns t as a time.Time of this process's clock, for contexts and logs. Never becomes the zero time.
func (t Time) Clock() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return epoch.Add(time.Duration(int64(t) - epochUnix))
}
