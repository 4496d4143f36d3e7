package registry

import (
	"fmt"
	"testing"
	"time"
)

func BenchmarkSnapshot(b *testing.B) {
	d := newTestDriver()
	r := mustNew(b, d, Options{})
	defer r.Close()
	v := r.Open("greeter")
	d.feed <- Update{Nodes: testNodes("a", "b", "c")}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n += len(v.Snapshot().Nodes)
	}
	_ = n
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	d := newTestDriver()
	r := mustNew(t, d, Options{})
	defer r.Close()
	v := r.Open("greeter")
	changed := v.Changed()
	d.feed <- Update{Nodes: testNodes("a")}
	<-changed
	for name, f := range map[string]func(){
		"Snapshot": func() { _ = v.Snapshot().Nodes },
		"Changed":  func() { _ = v.Changed() },
		"Report":   func() { v.Report("a", true) },
		"Node":     func() { _ = v.Snapshot().Node("a") },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// BenchmarkChange is the cost of one node's change, from the driver to the snapshot, by the size of the service.
func BenchmarkChange(b *testing.B) {
	for _, size := range []int{3, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			r := mustNew(b, newTestDriver(), Options{})
			defer r.Close()
			w := newWatch(r, "greeter")
			defer w.cancel()
			nodes := make([]*Node, size)
			for i := range nodes {
				nodes[i] = testNode(fmt.Sprintf("node-%04d", i))
			}
			versions := [2]*Node{nodes[0], nodes[0].Clone()}
			versions[1].Version = "2"
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				nodes[0] = versions[i%2]
				w.emit(Update{Nodes: nodes})
			}
		})
	}
}

// BenchmarkReport is the cost of a caller's word on a healthy node, while all is well and while one is absent.
func BenchmarkReport(b *testing.B) {
	for _, absent := range []bool{false, true} {
		b.Run(fmt.Sprintf("absent=%v", absent), func(b *testing.B) {
			d := newTestDriver()
			r := mustNew(b, d, Options{Grace: time.Hour})
			defer r.Close()
			v := r.Open("greeter")
			d.feed <- Update{Nodes: testNodes("a", "b", "c")}
			if absent {
				d.feed <- Update{Nodes: testNodes("a", "b")}
				for changed := v.Changed(); v.Snapshot().Disbelieved == 0; changed = v.Changed() {
					<-changed
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				v.Report("a", true)
			}
		})
	}
}
