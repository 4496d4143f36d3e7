package registry

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// deaf is an engine whose watches tell what there is when they begin, and nothing after that, as if they had died without
// a word.
type deaf struct {
	mu    sync.Mutex
	nodes []*Node
	began []time.Time
	now   int // watches under way
	most  int
	sick  bool
}

func (d *deaf) List(context.Context) ([]string, error) { return nil, nil }

func (d *deaf) Watch(ctx context.Context, _ string, emit func(Update)) error {
	d.mu.Lock()
	d.began = append(d.began, time.Now())
	d.now++
	d.most = max(d.most, d.now)
	nodes, sick := slices.Clone(d.nodes), d.sick
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.now--
		d.mu.Unlock()
	}()
	if sick {
		return errSick
	}
	emit(Update{Nodes: nodes})
	<-ctx.Done()
	return ctx.Err()
}

func (d *deaf) set(sick bool, ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes, d.sick = testNodes(ids...), sick
}

func (d *deaf) watches() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.began)
}

type deafAndSure struct{ *deaf }

func (deafAndSure) ChecksItself() {}

// A watch that has died silently is not believed for ever.
func TestListedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deaf{nodes: testNodes("a")}
		logged := &logLines{}
		r := mustNew(t, d, Options{Logger: logged.logger()})
		defer r.Close()
		v := r.Open("greeter")
		synctest.Wait()
		d.set(false, "a", "b")
		time.Sleep(DefaultRelist/2 - time.Second)
		if s := v.Snapshot(); show(s.Nodes) != "a" || len(d.watches()) != 1 {
			t.Errorf("too early: %+v, %d watches", s, len(d.watches()))
		}
		time.Sleep(DefaultRelist + 2*time.Second)
		if s := v.Snapshot(); show(s.Nodes) != "a b" || s.Revision != 2 || s.Stale {
			t.Errorf("%+v", s)
		}
		time.Sleep(10 * time.Hour)
		began := d.watches()
		for i := range began[1:] {
			if took := began[i+1].Sub(began[i]); took < DefaultRelist/2 || took > DefaultRelist*3/2 {
				t.Errorf("a watch lasted %v", took)
			}
		}
		if n := len(began); n < 45 || n > 80 || d.most != 1 {
			t.Errorf("%d watches in ten hours, %d at a time", n, d.most)
		}
		if s := v.Snapshot(); s.Revision != 2 || logged.count("\n") != 0 {
			t.Errorf("an answer that says the same is news: revision %d, logged %q", s.Revision, logged.b.String())
		}

		// An engine that does not answer then is noticed.
		d.set(true, "a", "b")
		time.Sleep(2 * DefaultRelist)
		if s := v.Snapshot(); show(s.Nodes) != "a b" || !s.Stale {
			t.Errorf("while it is sick: %+v", s)
		}
		d.set(false, "a", "b", "c")
		time.Sleep(backoffMax)
		if s := v.Snapshot(); show(s.Nodes) != "a b c" || s.Stale {
			t.Errorf("after its return: %+v", s)
		}
	})
}

// Services that were opened together are not listed together.
func TestListedAnewOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deaf{}
		r := mustNew(t, d, Options{})
		defer r.Close()
		const services = 1000
		for i := range services {
			r.Open("s" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)))
		}
		time.Sleep(DefaultRelist*3/2 + time.Second)
		began := d.watches()[services:]
		slices.SortFunc(began, time.Time.Compare)
		if len(began) < services {
			t.Fatalf("%d of %d services were listed anew", len(began), services)
		}
		most := 0
		for i := range began {
			n := 0
			for n < len(began)-i && began[i+n].Sub(began[i]) < time.Second {
				n++
			}
			most = max(most, n)
		}
		if most > 20 { // 1.7 on average
			t.Errorf("%d of %d services were listed within one second", most, services)
		}
	})
}

func TestNotListedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for what, open := range map[string]func(d *deaf) (Driver, Options){
			"off":           func(d *deaf) (Driver, Options) { return d, Options{Relist: -1} },
			"checks itself": func(d *deaf) (Driver, Options) { return deafAndSure{d}, Options{} },
		} {
			d := &deaf{}
			driver, o := open(d)
			r := mustNew(t, driver, o)
			r.Open("greeter")
			time.Sleep(24 * time.Hour)
			if n := len(d.watches()); n != 1 {
				t.Errorf("%s: %d watches", what, n)
			}
			r.Close()
		}
		if _, err := New(&deaf{}, Options{Relist: time.Millisecond}); err == nil {
			t.Error("a storm is allowed")
		}
	})
}
