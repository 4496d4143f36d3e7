package etcdregistry

import "testing"

func TestSameData(t *testing.T) {
	d := &Driver{}
	before := d.known()          // somebody asks
	d.epoch, d.revision = "x", 7 // and meanwhile the first epoch is written
	if !d.same("", 6, before) || d.epoch != "x" || d.revision != 7 {
		t.Errorf("an answer from before the first epoch is taken for other data: %q, %d", d.epoch, d.revision)
	}
	if !d.same("x", 9, d.known()) || d.revision != 9 {
		t.Errorf("the same data are not: %q, %d", d.epoch, d.revision)
	}
	for _, other := range []data{{"", 12}, {"y", 12}, {"z", 3}} {
		d.epoch, d.revision = "x", 9
		if d.same(other.epoch, other.revision, d.known()) || d.epoch != other.epoch || d.revision != other.revision {
			t.Errorf("%+v is taken for the data with epoch x at 9", other)
		}
	}
	d.epoch, d.revision = "x", 9
	if d.same("x", 8, d.known()) {
		t.Error("data whose history is shorter than before are taken for the same")
	}
}
