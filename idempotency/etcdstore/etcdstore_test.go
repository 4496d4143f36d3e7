package etcdstore

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/status"
)

// TestEtcdIsAway: a call is told that its key cannot be claimed while it has time left, and does not wait for etcd as long as its own caller would.
func TestEtcdIsAway(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(t.TempDir(), "nobody")}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, err := New(client, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.most != claimMost {
		t.Errorf("a claim may take %v", s.most)
	}
	s.most = 20 * time.Millisecond
	guard, err := idempotency.New(idempotency.Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = guard.Do(ctx, idempotency.Call{Key: "k", Method: "m"}, func(context.Context) (any, error) {
		t.Error("it was begun")
		return new([]byte), nil
	})
	if status.CodeOf(err) != status.Unavailable || status.FateOf(err) != status.NotSent || ctx.Err() != nil {
		t.Errorf("%v, of fate %v", err, status.FateOf(err))
	}
}
