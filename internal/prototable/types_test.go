package prototable_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hull-go/hull/internal/prototable"
	"github.com/hull-go/hull/internal/prototable/testpb"
)

// eligible has a message of each type that must have a table.
func eligible() []proto.Message {
	return []proto.Message{
		(*testpb.Empty)(nil),
		(*testpb.Small)(nil),
		(*testpb.Singles)(nil),
		(*testpb.Optionals)(nil),
		(*testpb.Lists)(nil),
		(*testpb.Unpacked)(nil),
		(*testpb.Tree)(nil),
		(*testpb.Branch)(nil),
		(*testpb.Order)(nil),
		(*testpb.Order_Customer)(nil),
		(*testpb.Order_Line)(nil),
		(*testpb.Sparse)(nil),
		(*testpb.Old)(nil),
		(*testpb.New)(nil),
		(*testpb.TwoSingles)(nil),
		(*testpb.TwoLists)(nil),
		(*testpb.TwoEnums)(nil),
		(*testpb.EdSingles)(nil),
		(*testpb.EdLists)(nil),
		(*testpb.EdClosed)(nil),
	}
}

// perhaps has a message of each type that a table may refuse, or do in part.
func perhaps() []proto.Message {
	return []proto.Message{
		(*testpb.Maps)(nil),
		(*testpb.Choice)(nil),
		(*testpb.Choices)(nil),
		(*testpb.Around)(nil),
		(*testpb.Ring)(nil),
		(*testpb.Link)(nil),
		(*testpb.Hub)(nil),
		(*testpb.Hybrid)(nil),
		(*testpb.ExtendableBelow)(nil),
	}
}

// ineligible has a message of each type that only package proto can code.
func ineligible() []proto.Message {
	return []proto.Message{
		(*testpb.Required)(nil),
		(*testpb.RequiredBelow)(nil),
		(*testpb.Grouped)(nil),
		(*testpb.Extendable)(nil),
		(*testpb.TwoChoice)(nil),
		(*testpb.Opaque)(nil),
		(*testpb.EdDelimited)(nil),
		(*testpb.EdRequired)(nil),
	}
}

// withTable has a message of each type that has a table.
func withTable(t testing.TB) []proto.Message {
	t.Helper()
	for _, typ := range eligible() {
		if prototable.For(typ) == nil {
			t.Fatalf("%T has no table", typ)
		}
	}
	return slices.DeleteFunc(slices.Concat(eligible(), perhaps()), func(m proto.Message) bool { return prototable.For(m) == nil })
}

// eachTable runs a test for every type that has a table.
func eachTable(t *testing.T, test func(t *testing.T, typ proto.Message)) {
	t.Helper()
	for _, typ := range withTable(t) {
		t.Run(string(typ.ProtoReflect().Descriptor().Name()), func(t *testing.T) { test(t, typ) })
	}
}

// seeded returns a source of random messages, and prints its seed.
func seeded(t testing.TB, seed uint64, odd oddities) random {
	t.Helper()
	t.Logf("seed %d", seed)
	return random{rand.New(rand.NewPCG(seed, 0)), odd}
}
