package hull_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/hulltest"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/spec"
	"github.com/hull-go/hull/status"
)

// withDocument gives a client a document in YAML.
func withDocument(t *testing.T, text string) hull.ClientOption {
	t.Helper()
	s, err := spec.Parse("", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return hull.WithSpec(s)
}

func ask(ctx context.Context, c *hull.Client, method, name string, opts ...hull.CallOption) (*helloReply, error) {
	return hull.Call[helloReply](ctx, c.To("greeter"), method, &helloRequest{Name: name}, opts...)
}

const greet, once = "greeter.Greeter/Hello", "greeter.Greeter/Once"

func TestFallbackToAnotherService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		first := w.Serve("greeter", "first", greeter)
		w.Serve("backup", "second", greeter)
		c := w.Client("caller", withDocument(t, `services: {greeter: {fallback: {service: backup}}}`))
		var info hull.CallInfo
		if _, err := ask(t.Context(), c, greet, "Ada", hull.Info(&info)); err != nil || info.Fallback != "" || info.Node != "first" {
			t.Fatalf("%v, %+v", err, info)
		}
		first.Kill()
		for i := range 50 {
			rep, err := ask(t.Context(), c, greet, "Ada", hull.Info(&info))
			if err != nil {
				t.Fatal(err)
			}
			if rep.From != "second" || info.Fallback != "service backup" || info.Node != "second" || info.Err == nil || info.Class == policy.ClassOK {
				t.Fatalf("call %d: %+v, %+v", i, rep, info)
			}
			if a := info.Attempts; len(a) == 0 || a[len(a)-1].Node != "second" {
				t.Fatalf("call %d: attempts %+v", i, a)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := c.To("greeter").Methods()[greet].Unary.Fallbacks; n != 50 {
			t.Errorf("%d fallbacks are counted", n)
		}
		// What the caller has to see comes from the first that can say it.
		if _, err := ask(t.Context(), c, greet, "", hull.Info(&info)); status.CodeOf(err) != status.InvalidArgument || info.Fallback != "service backup" {
			t.Errorf("%v, %+v", err, info)
		}
		first.Restart()
		time.Sleep(5 * time.Second)
		if _, err := ask(t.Context(), c, greet, "Ada", hull.Info(&info)); err != nil || info.Fallback != "" {
			t.Errorf("after the restart: %v, %+v", err, info)
		}
	})
}

// TestFallbackOfWhatMayHaveRun: what may have run goes to no other service, unless it may be run twice; what was certainly not run does.
func TestFallbackOfWhatMayHaveRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		var ran atomic.Int64
		broken := func(s *hull.Server) {
			for _, m := range []string{greet, once} {
				hull.Handle(s, m, func(context.Context, *helloRequest) (*helloReply, error) {
					ran.Add(1)
					return nil, status.Errorf(status.Unavailable, "out of order")
				})
			}
		}
		first := w.Serve("greeter", "first", broken)
		w.Serve("backup", "second", greeter)
		c := w.Client("caller", withDocument(t, `services: {greeter: {fallback: {service: backup}, breaker: {mode: off}, methods: {greeter.Greeter/Hello: {idempotent: true}}}}`))
		if rep, err := ask(t.Context(), c, greet, "Ada"); err != nil || rep.From != "second" {
			t.Errorf("idempotent: %v, %v", rep, err)
		}
		var info hull.CallInfo
		_, err := ask(t.Context(), c, once, "Ada", hull.Info(&info))
		if status.CodeOf(err) != status.Unavailable || info.Fallback != "" || !strings.Contains(err.Error(), "not idempotent") {
			t.Errorf("not idempotent: %v, %+v", err, info)
		}
		if e, ok := errors.AsType[*policy.FallbackError](err); !ok || len(e.Tried) != 1 {
			t.Errorf("%#v", e)
		}
		first.Kill()
		time.Sleep(time.Minute)
		if rep, err := ask(t.Context(), c, once, "Ada", hull.Info(&info)); err != nil || info.Fallback != "service backup" {
			t.Errorf("not sent: %v, %v, %+v", rep, err, info)
		}
	})
}

// TestFallbackWithinTheDeadline: a service that hangs leaves its stand-in some of the caller's time.
func TestFallbackWithinTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		first := w.Serve("greeter", "first", greeter)
		second := w.Serve("backup", "second", greeter)
		c := w.Client("caller", withDocument(t, `services: {greeter: {fallback: {service: backup}, retry: {mode: off}, attempt_timeout: {mode: off}}}`))
		for _, s := range []string{"greeter", "backup"} {
			if _, err := hull.Call[helloReply](t.Context(), c.To(s), greet, &helloRequest{Name: "Ada"}); err != nil {
				t.Fatal(err)
			}
		}
		first.Freeze()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		rep, err := ask(ctx, c, greet, "Ada")
		if took := time.Since(began); err != nil || rep.From != "second" || took < 700*time.Millisecond || took > 800*time.Millisecond {
			t.Errorf("%v, %v after %v", rep, err, took)
		}
		second.Freeze() // which has what is left of the caller's time, and no more
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		rep, err = ask(ctx, c, greet, "Ada")
		if took := time.Since(began); status.CodeOf(err) != status.DeadlineExceeded || took < 900*time.Millisecond || took > 1050*time.Millisecond {
			t.Errorf("when the other service hangs, too: %v, %v after %v", rep, err, took)
		}
		second.Thaw()
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if _, err := ask(ctx, c, greet, "Ada"); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that has gone: %v", err)
		}
		first.Thaw()
	})
}

func TestFallbackAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		first := w.Serve("greeter", "first", greeter)
		c := w.Client("caller", withDocument(t, `
services:
  greeter:
    methods:
      greeter.Greeter/Hello: {side_effect_free: true, fallback: {service: nowhere, stale: 1m, answer: {Text: somebody}}}
      greeter.Greeter/Once: {fallback: {stale: 1m, code: NotFound, message: nothing at the moment}}
`))
		ada := metadata.NewOutgoingContext(t.Context(), metadata.Pairs("user", "ada", "traceparent", "1"))
		for _, m := range []string{greet, once} {
			if _, err := ask(ada, c, m, "Ada"); err != nil {
				t.Fatal(err)
			}
		}
		first.Kill()
		time.Sleep(30 * time.Second)
		var info hull.CallInfo
		ada = metadata.NewOutgoingContext(t.Context(), metadata.Pairs("user", "ada", "traceparent", "2"))
		rep, err := ask(ada, c, greet, "Ada", hull.Info(&info))
		if err != nil || rep.Text != "Hello, Ada" || info.Fallback != "stale answer" || info.Age < 30*time.Second || info.Age > 40*time.Second || info.Err == nil {
			t.Errorf("an earlier answer: %+v, %v, %+v", rep, err, info)
		}
		for name, try := range map[string]struct {
			ctx  context.Context
			name string
		}{
			"another request":      {ada, "Bob"},
			"another caller":       {metadata.NewOutgoingContext(t.Context(), metadata.Pairs("user", "bob")), "Ada"},
			"nobody in particular": {t.Context(), "Ada"},
		} {
			rep, err := ask(try.ctx, c, greet, try.name, hull.Info(&info))
			if err != nil || rep.Text != "somebody" || info.Fallback != "answer" || info.Age != 0 {
				t.Errorf("%s: %+v, %v, %+v", name, rep, err, info)
			}
		}
		_, err = ask(ada, c, once, "Ada", hull.Info(&info)) // it may do something, so no earlier answer stands for it
		if status.CodeOf(err) != status.NotFound || info.Fallback != "code" || !strings.Contains(err.Error(), "nothing at the moment") || info.Class == policy.ClassOK {
			t.Errorf("a code: %v, %+v", err, info)
		}
		time.Sleep(time.Minute)
		if rep, err = ask(ada, c, greet, "Ada", hull.Info(&info)); err != nil || rep.Text != "somebody" {
			t.Errorf("too old: %+v, %v, %+v", rep, err, info)
		}
		first.Restart()
		time.Sleep(10 * time.Second)
		if rep, err = ask(ada, c, greet, "Ada", hull.Info(&info)); err != nil || rep.Text != "Hello, Ada" || info.Fallback != "" {
			t.Errorf("after the restart: %+v, %v, %+v", rep, err, info)
		}
	})
}

func TestFallbackModes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "first", greeter).Kill()
		for mode, want := range map[string]int64{"on": 0, "dry-run": 1, "off": 0} {
			c := w.Client("caller-"+mode, withDocument(t, `services: {greeter: {fallback: {mode: `+mode+`, answer: {Text: x}}}}`))
			_, err := ask(t.Context(), c, greet, "Ada")
			if (err == nil) != (mode == "on") {
				t.Errorf("%s: %v", mode, err)
			}
			if n := c.To("greeter").Methods()[greet].Unary.DryFallbacks; n != want {
				t.Errorf("%s: %d are counted", mode, n)
			}
		}
	})
}

// TestFallbackHidesNothingOfTheCallers: mistakes of the caller are told to the caller.
func TestFallbackHidesNothingOfTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "first", greeter)
		c := w.Client("caller", withDocument(t, `defaults: {side_effect_free: true, fallback: {answer: {Text: x}}}`))
		for name, err := range map[string]error{
			"wrong request":       second(ask(t.Context(), c, greet, "")),
			"a wrong selector":    second(ask(t.Context(), c, greet, "Ada", hull.Select("="))),
			"cannot be encoded":   second(hull.Call[helloReply](t.Context(), c.To("greeter"), greet, make(chan int))),
			"the caller has gone": second(ask(cancelled(t.Context()), c, greet, "Ada")),
		} {
			if err == nil {
				t.Errorf("%s: it has an answer", name)
			}
		}
		if rep, err := ask(t.Context(), c, "greeter.Greeter/Panic", "Ada"); err != nil || rep.Text != "x" {
			t.Errorf("a failure: %v, %v", rep, err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func cancelled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// TestFallbackInARow: services stand in for one another one after the other, and the deadline holds for all of them.
func TestFallbackInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hulltest.New(t)
		w.Serve("greeter", "a", greeter).Kill()
		w.Serve("b", "b", greeter).Kill()
		w.Serve("c", "c", greeter)
		doc := `
services:
  greeter: {fallback: {service: b}}
  b: {fallback: {service: c}}
  c: {fallback: {answer: {Text: nobody}}}
`
		c := w.Client("caller", withDocument(t, doc))
		var info hull.CallInfo
		if rep, err := ask(t.Context(), c, greet, "Ada", hull.Info(&info)); err != nil || rep.From != "c" || info.Fallback != "service b, service c" || info.Node != "c" {
			t.Errorf("%+v, %v, %+v", rep, err, info)
		}
		w.Node("c").Kill()
		if rep, err := ask(t.Context(), c, greet, "Ada", hull.Info(&info)); err != nil || rep.Text != "nobody" || info.Fallback != "service b, service c, answer" {
			t.Errorf("%+v, %v, %+v", rep, err, info)
		}
	})
}
