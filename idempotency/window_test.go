package idempotency

import (
	"context"
	"strings"
	"testing"

	"github.com/hull-go/hull/policy"
)

type scopeKey struct{}

// TestASmallAnswerHasItsRoom is a regression test: the room for a small answer is taken when its call begins, and the answer was not kept when others had come since, whose
// keys make the share of its scope smaller.
func TestASmallAnswerHasItsRoom(t *testing.T) {
	g, err := New(Options{MaxBytes: 64 << 10, Scope: func(ctx context.Context, _ string) string { return ctx.Value(scopeKey{}).(string) }})
	if err != nil {
		t.Fatal(err)
	}
	a, b := context.WithValue(t.Context(), scopeKey{}, "a"), context.WithValue(t.Context(), scopeKey{}, "b")
	var first *entry // of A's calls under way, which fill its share
	for i := 0; ; i++ {
		e, d := g.w.begin(policy.Now(), "m\x00a\x00"+strings.Repeat("k", i), "a", Fingerprint{}, func() *run { return newRun(a, key{}, 0, true) })
		if d == noRoom {
			break
		}
		if first == nil {
			first = e
		}
	}
	for i := range 3 {
		if _, err := g.Do(b, Call{Key: "b" + strings.Repeat("k", i), Method: "m"}, func(context.Context) (any, error) { return []byte("ok"), nil }); err != nil {
			t.Fatal(err)
		}
	}
	if g.w.room("a", 0) {
		t.Fatal("A has room: the test does not test that")
	}
	res, err := encode([]byte("ok"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	g.w.end(policy.Now(), first, res)
	if rep, err := first.result.answer(); err != nil || string(*rep.(*[]byte)) != "ok" {
		t.Errorf("%v, %v", rep, err)
	}
}
