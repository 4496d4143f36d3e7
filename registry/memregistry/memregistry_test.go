package memregistry_test

import (
	"net/url"
	"testing"

	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/registry/memregistry"
	"github.com/hull-go/hull/registry/registrytest"
)

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(*testing.T) registrytest.Harness {
		e := memregistry.New()
		return registrytest.Harness{
			Open:    func() registry.Driver { return e },
			Lose:    func(service, id string) { e.Expire(service, id) },
			Virtual: true,
		}
	})
}

func TestFromURL(t *testing.T) {
	for raw, ok := range map[string]bool{"mem://": true, "mem://host": false, "mem://?x=1": false, "file://": false} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := memregistry.FromURL(u); (err == nil) != ok {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
