package registry

import (
	"strings"
	"testing"
	"time"
)

func ids(n int) []string {
	var out []string
	for i := range n {
		out = append(out, string(rune('a'+i/26))+string(rune('a'+i%26)))
	}
	return out
}

// Each step is "+1s" (time passes, and expire is called), "= a b" (the engine lists a and b), "= a -b" (b left on
// purpose), "!a" (a caller fails to reach a), "?a" (a caller reaches a), "drain a b" (both are listed, and draining).
// After it stands what is then believed.
func TestBelief(t *testing.T) {
	twenty := strings.Join(ids(20), " ")
	minus := func(n int) string { return strings.Join(ids(20)[n:], " ") }
	cases := map[string][][2]string{
		"a crash in a fleet of three, proved": {
			{"= a b c", "a b c"}, {"= a b -c", "a b"}},
		"an expired lease in a fleet of three": {
			{"= a b c", "a b c"}, {"= a b", "a b (c)"}, {"+59s", "a b (c)"}, {"+1s", "a b"}},
		"absent and failing goes": {
			{"= a b c", "a b c"}, {"= a b", "a b (c)"}, {"!c", "a b"}},
		"failing, then absent goes": {
			{"= a b c", "a b c"}, {"!c", "a b c"}, {"= a b", "a b"}},
		"a failure that was made good is no reason": {
			{"= a b c", "a b c"}, {"!c", "a b c"}, {"?c", "a b c"}, {"= a b", "a b (c)"}},
		"an old failure is no reason": {
			{"= a b c", "a b c"}, {"!c", "a b c"}, {"+31s", "a b c"}, {"= a b", "a b (c)"}},
		"absent and healthy stays": {
			{"= a b c", "a b c"}, {"= a b", "a b (c)"}, {"+50s", "a b (c)"}, {"?c", "a b (c)"}, {"+50s", "a b (c)"},
			{"?c", "a b (c)"}, {"+59s", "a b (c)"}, {"+1s", "a b"}},
		"the absent come back": {
			{"= a b c", "a b c"}, {"=", "(a) (b) (c)"}, {"= a", "a (b) (c)"}, {"= a b c", "a b c"}},
		"everybody left on purpose": {
			{"= a b", "a b"}, {"= -a -b", ""}},
		"draining nodes leave on purpose": {
			{"= a b c", "a b c"}, {"drain a b c", "a b c"}, {"=", ""}},
		"absent, then proved": {
			{"= a b c", "a b c"}, {"= a b", "a b (c)"}, {"= a b -c", "a b"}},
		"a departure of a node that is listed is none": {
			{"= a b", "a b"}, {"= a b -b", "a b"}},
		"3 of 20 expire": {
			{"= " + twenty, twenty}, {"= " + minus(3), minus(3)}},
		"4 of 20 expire": {
			{"= " + twenty, twenty}, {"= " + minus(4), "(aa) (ab) (ac) (ad) " + minus(4)}},
		"one after the other, but fast": {
			{"= " + twenty, twenty}, {"= " + minus(1), minus(1)}, {"= " + minus(2), minus(2)}, {"= " + minus(3), minus(3)},
			{"= " + minus(4), "(ad) " + minus(4)}, {"= " + minus(5), "(ad) (ae) " + minus(5)}},
		"one after the other, slowly": {
			{"= " + twenty, twenty}, {"+31s", twenty}, {"= " + minus(1), minus(1)}, {"+31s", minus(1)}, {"= " + minus(2), minus(2)},
			{"+31s", minus(2)}, {"= " + minus(3), minus(3)}, {"+31s", minus(3)}, {"= " + minus(4), minus(4)}},
		"an empty answer at first is just that": {
			{"=", ""}, {"= a", "a"}},
		"a true scale-down lifts itself": {
			{"= " + twenty, twenty}, {"= " + minus(19), "(" + strings.Join(ids(19), ") (") + ") " + minus(19)}, {"+60s", minus(19)},
			{"= -at", ""}},
	}
	for name, steps := range cases {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			b := Belief{share: DefaultDisbelieve, window: DefaultTTL, grace: DefaultGrace, entries: map[string]*entry{}}
			for i, step := range steps {
				before := show(b.Nodes())
				first := !b.answered
				changed := false
				switch op := step[0]; op[0] {
				case '+':
					d, err := time.ParseDuration(op[1:])
					if err != nil {
						t.Fatal(err)
					}
					now = now.Add(d)
					changed = b.Expire(now)
				case '!', '?':
					changed = b.Report(now, op[1:], op[0] == '?')
				default:
					var up Update
					fields := strings.Fields(op)
					for _, f := range fields[1:] {
						if f[0] == '-' {
							up.Left = append(up.Left, Departure{ID: f[1:], Why: "test"})
							continue
						}
						n := testNode(f)
						n.Draining = fields[0] == "drain"
						up.Nodes = append(up.Nodes, n)
					}
					changed = b.Update(now, up)
					if fields[0] == "drain" || first {
						before = "changed anyhow"
					}
				}
				got := show(b.Nodes())
				if got != step[1] {
					t.Fatalf("step %d, %q: %q, want %q", i, step[0], got, step[1])
				}
				if changed != (got != before) {
					t.Errorf("step %d, %q: changed = %v, from %q to %q", i, step[0], changed, before, got)
				}
				check(t, &b, now)
			}
		})
	}
}

// check asserts what always holds.
func check(t *testing.T, b *Belief, now time.Time) {
	t.Helper()
	absent, failing := 0, 0
	for id, e := range b.entries {
		if e.node.ID != id || e.shown.Absent != !e.absent.IsZero() || e.node.Absent {
			t.Errorf("entry %s: %+v", id, e)
		}
		if e.shown.Absent {
			absent++
		}
		if !e.failing.IsZero() {
			failing++
		}
	}
	if absent != b.absent || failing != b.failing {
		t.Errorf("%d absent, %d failing; counted %d and %d", absent, failing, b.absent, b.failing)
	}
	if (absent > 0) != (b.why != "") || (absent > 0) != !b.since.IsZero() {
		t.Errorf("%d absent, but why is %q since %v", absent, b.why, b.since)
	}
	if absent > 0 {
		if d := b.Deadline(); d.Before(now) || d.After(now.Add(b.grace)) {
			t.Errorf("deadline %v at %v", d, now)
		}
	} else if !b.Deadline().IsZero() {
		t.Errorf("a deadline without an absent node: %v", b.Deadline())
	}
}

func TestAnAddressThatIsTakenOver(t *testing.T) {
	now := time.Unix(1000, 0)
	b := Belief{share: DefaultDisbelieve, window: DefaultTTL, grace: DefaultGrace, entries: map[string]*entry{}}
	b.Update(now, Update{Nodes: testNodes("a", "b")})
	heir := testNode("a")
	heir.ID = "heir"
	b.Update(now, Update{Nodes: []*Node{heir, testNode("b")}})
	if got := show(b.Nodes()); got != "b heir" {
		t.Errorf("%q: who lives at another's address has replaced it", got)
	}
}

func TestBeliefOfTheDisk(t *testing.T) {
	now := time.Unix(1000, 0)
	fresh := func() *Belief {
		b := &Belief{share: DefaultDisbelieve, window: DefaultTTL, grace: DefaultGrace, entries: map[string]*entry{}}
		if !b.adopt(testNodes("a", "b", "c")) {
			t.Fatal("not adopted")
		}
		return b
	}
	b := fresh()
	b.Update(now, Update{Nodes: testNodes("c", "d")})
	if got := show(b.Nodes()); got != "c d" {
		t.Errorf("an answer replaces what the disk remembered: %q", got)
	}
	b = fresh()
	b.Update(now, Update{})
	if got := show(b.Nodes()); got != "(a) (b) (c)" {
		t.Errorf("an empty answer is disbelieved: %q", got)
	}
	check(t, b, now)
	if b.adopt(testNodes("x")) {
		t.Error("adopted after an answer")
	}
}
