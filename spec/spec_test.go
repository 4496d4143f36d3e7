package spec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull/balance"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
)

const doc = `
defaults:
  timeout: 2s
  retry: {attempts: 2}
services:
  greeter:
    balancer: round-robin
    breaker: {failures: 25%}
    methods:
      greeter.Greeter/Hello: {idempotent: true, timeout: 300ms, hedge: {mode: on, delay: 20ms}}
      greeter.Greeter/Once: {retry: {mode: off}}
  board:
    ejection: {mode: dry-run}
    concurrency: {limit: 10}
`

func mustParse(t testing.TB, text string) *Spec {
	t.Helper()
	s, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestInheritance(t *testing.T) {
	s := mustParse(t, doc)
	hello := s.Method("greeter", "greeter.Greeter/Hello")
	if hello.Timeout != Duration(300*time.Millisecond) || !*hello.Idempotent || hello.Hedge.Mode != On || hello.Retry.Attempts != 2 ||
		hello.Breaker.Failures != 0.25 || hello.Balancer != "round-robin" || hello.Ejection.Mode != On {
		t.Errorf("Hello: %+v", hello)
	}
	once := s.Method("greeter", "greeter.Greeter/Once")
	if once.Timeout != Duration(2*time.Second) || once.Idempotent != nil || once.Hedge.Mode != Off || once.Retry.Mode != Off {
		t.Errorf("Once: %+v", once)
	}
	list := s.Method("board", "board.Board/List")
	if list.Retry.Mode != On || list.Retry.Attempts != 2 || list.Ejection.Mode != DryRun || list.Concurrency.Limit != 10 || list.Balancer != "p2c" {
		t.Errorf("List: %+v", list)
	}
	if e := new(Spec).Method("any", "a.B/C"); e.Retry.Mode != On || e.Retry.Attempts != 3 || e.Breaker.Mode != On || e.AttemptTimeout.Mode != On || e.Hedge.Mode != Off || e.Timeout != 0 {
		t.Errorf("nothing configured: %+v", e)
	}
}

func TestJSONIsTheSameDocument(t *testing.T) {
	s := mustParse(t, doc)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	again := mustParse(t, string(b))
	c, err := json.Marshal(again)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != string(c) {
		t.Errorf("written and read again:\n%s\n%s", b, c)
	}
}

// TestApplyKeepsState: what did not change is the same object afterwards, what did is another.
func TestApplyKeepsState(t *testing.T) {
	b, err := NewBook(mustParse(t, doc))
	if err != nil {
		t.Fatal(err)
	}
	picker, err := b.Picker("greeter")
	if err != nil {
		t.Fatal(err)
	}
	method := func() *Method {
		t.Helper()
		m, err := b.Method("greeter", "greeter.Greeter/Hello", picker, nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	before, gen := method(), b.Generation()
	changed := mustParse(t, strings.ReplaceAll(doc, "attempts: 2", "attempts: 4"))
	if err := b.Apply(changed); err != nil {
		t.Fatal(err)
	}
	after := method()
	if b.Generation() == gen || after.Retry.Attempts != 4 || after.Unary == before.Unary {
		t.Error("the change did not take effect")
	}
	if after.Breaker != before.Breaker || after.Unary.Options().Timeouts != before.Unary.Options().Timeouts {
		t.Error("the breaker and the latencies were forgotten though nothing about them changed")
	}
	if again, _ := b.Picker("greeter"); again != picker {
		t.Error("the picker was forgotten")
	}
	if err := b.Apply(mustParse(t, strings.ReplaceAll(doc, "25%", "75%"))); err != nil {
		t.Fatal(err)
	}
	if m := method(); m.Breaker == before.Breaker {
		t.Error("the breaker's options changed, and it did not")
	}
	bad := &Spec{Defaults: Service{Balancer: "best"}}
	if err := b.Apply(bad); err == nil || b.Spec() == bad {
		t.Errorf("an invalid document is in force (%v)", err)
	}
}

// TestSwitchingABreakerOffAndOnKeepsItsState: the mode belongs to the slot, not to the breaker.
func TestSwitchingABreakerOffAndOnKeepsItsState(t *testing.T) {
	b, err := NewBook(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := balance.New(balance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.Update(1, &registry.Service{Name: "s"})
	m1, err := b.Method("s", "a.B/C", p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Apply(&Spec{Defaults: Service{Policy: Policy{Breaker: Breaker{Mode: Off}}}}); err != nil {
		t.Fatal(err)
	}
	m2, err := b.Method("s", "a.B/C", p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m1.Breaker != m2.Breaker || m2.Unary.Options().Breaker.Mode != policy.Off {
		t.Errorf("same breaker: %v, mode %v", m1.Breaker == m2.Breaker, m2.Unary.Options().Breaker.Mode)
	}
}

// TestPicking: what the document says about choosing nodes arrives at the picker, and a reload replaces it.
func TestPicking(t *testing.T) {
	s, err := Parse("test.yaml", []byte(`
services:
  keys: {balancer: consistent-hash, hash_bound: 2}
  big: {balancer: prequal, subset: {size: 20, client: 7}, locality: {zone: eu-1a, region: eu-1}, canary: {version: "2.0", share: 5%}}
  dark: {canary: {version: "2.0", share: 0%}}
`))
	if err != nil {
		t.Fatal(err)
	}
	of := func(service string) balance.Options {
		t.Helper()
		sv := s.Service(service)
		return sv.picking()
	}
	if got, want := of("keys").Strategy, balance.ConsistentHash(2); got != want {
		t.Errorf("keys: %v, want %v", got, want)
	}
	o := of("big")
	if fmt.Sprint(o.Strategy) != "prequal" || o.Subset != (balance.Subset{Size: 20, Client: 7}) || o.Zone != "eu-1a" || o.Region != "eu-1" || o.Versions["2.0"] != 0.05 {
		t.Errorf("big: %+v", o)
	}
	if share, ok := of("dark").Versions["2.0"]; !ok || share != 0 {
		t.Errorf("dark: %+v", of("dark").Versions)
	}
	if o := of("other"); fmt.Sprint(o.Strategy) != "p2c" || o.Versions != nil || o.Subset.Size != 0 {
		t.Errorf("other: %+v", o)
	}
	if l := leafAt("balancer"); !slices.Equal(l.choices, balance.StrategyNames()) {
		t.Errorf("the document can ask for %v, there are %v", l.choices, balance.StrategyNames())
	}
	for _, name := range balance.StrategyNames() {
		if got := fmt.Sprint((&Service{Balancer: name}).strategy()); got != name {
			t.Errorf("balancer %s is made as %s", name, got)
		}
	}
	a, b := s.Service("big"), s.Service("big")
	if !a.samePicker(&b) {
		t.Error("a service's picker differs from itself")
	}
	share := Percent(0.1)
	for _, change := range []func(){func() { b.HashBound = 3 }, func() { b.Locality.Zone = "x" }, func() { b.Subset.Size = 1 }, func() { b.Canary.Share = &share }} {
		b = s.Service("big")
		change()
		if a.samePicker(&b) {
			t.Errorf("a change of the picker's options is not noticed: %+v", b)
		}
	}
}
