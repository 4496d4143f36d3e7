package storetest_test

import (
	"testing"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/idempotency/storetest"
)

func TestMem(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(*testing.T) (_, _ idempotency.Store) {
			m := storetest.NewMem()
			return m, m
		},
		Die:  func(_ *testing.T, s idempotency.Store, owner string) { s.(*storetest.Mem).Die(owner) },
		Pass: func(_ *testing.T, s idempotency.Store, key string) { s.(*storetest.Mem).Pass(key) },
	})
}
