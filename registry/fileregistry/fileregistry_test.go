package fileregistry_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/fileregistry"
	"github.com/hull-go/hull/registry/registrytest"
)

func open(t testing.TB, o fileregistry.Options) *fileregistry.Driver {
	t.Helper()
	d, err := fileregistry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		dir := filepath.Join(t.TempDir(), "nodes")
		return registrytest.Harness{
			Open: func() registry.Driver { return open(t, fileregistry.Options{Dir: dir, Poll: 10 * time.Millisecond}) },
			TTL:  300 * time.Millisecond,
			Lose: func(string, string) {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			},
		}
	})
}
