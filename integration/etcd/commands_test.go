package etcd_test

import (
	"testing"

	"github.com/hull-go/hull/integration/engine"
)

func TestCommands(t *testing.T) {
	m := cluster(t, 1)[0]
	root := protect(t, m)
	engine.Commands(t, "etcd://hull:secret@"+m.Addr(), func(value string) {
		if _, err := root.Put(t.Context(), "/hull/planted/nodes/p1", value); err != nil {
			t.Fatal(err)
		}
	})
}
