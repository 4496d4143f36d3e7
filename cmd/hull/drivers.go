package main

import (
	"github.com/hull-go/hull/internal/cli"
	"github.com/hull-go/hull/registry/consulregistry"
	"github.com/hull-go/hull/registry/dnsregistry"
	"github.com/hull-go/hull/registry/etcdregistry"
	"github.com/hull-go/hull/registry/fileregistry"
	"github.com/hull-go/hull/registry/k8sregistry"
	"github.com/hull-go/hull/registry/natsregistry"
	"github.com/hull-go/hull/registry/staticregistry"
	"github.com/hull-go/hull/registry/zkregistry"
)

// drivers are the kinds of registry that this program is linked with, the default first.
func drivers() []cli.Driver {
	return []cli.Driver{
		{
			Scheme:     "file",
			Form:       "file:///DIRECTORY",
			Usage:      "the programs of one machine, through a directory; file:// alone is the user's own",
			Parameters: fileregistry.Parameters(),
			Open:       fileregistry.FromURL,
		},
		{
			Scheme:     "static",
			Form:       "static://HOST:PORT,…?service=NAME",
			Usage:      "a fixed list of addresses",
			Parameters: staticregistry.Parameters(),
			Open:       staticregistry.FromURL,
		},
		{
			Scheme:     "dns",
			Form:       "dns://SERVER,…/?name={service}.DOMAIN",
			Usage:      "DNS, read only: SRV records, or A and AAAA with port=; dns:/// asks the system's servers",
			Parameters: dnsregistry.Parameters(),
			Open:       dnsregistry.FromURL,
		},
		{
			Scheme:     "etcd",
			Form:       "etcd://USER:PASSWORD@HOST:PORT,…",
			Usage:      "etcd 3.4 or later; user and password where it asks for them",
			Parameters: etcdregistry.Parameters(),
			Open:       etcdregistry.FromURL,
		},
		{
			Scheme:     "nats",
			Form:       "nats://USER:PASSWORD@HOST:PORT,…",
			Usage:      "NATS 2.11 or later with JetStream; USER alone is a token",
			Parameters: natsregistry.Parameters(),
			Open:       natsregistry.FromURL,
		},
		{
			Scheme:     "consul",
			Form:       "consul://TOKEN@HOST:PORT,…",
			Usage:      "a Consul agent, or several that take each other's place",
			Parameters: consulregistry.Parameters(),
			Open:       consulregistry.FromURL,
		},
		{
			Scheme:     "k8s",
			Form:       "k8s://HOST:PORT",
			Usage:      "Kubernetes, read only: EndpointSlices; k8s:// alone is a pod's own cluster",
			Parameters: k8sregistry.Parameters(),
			Open:       k8sregistry.FromURL,
		},
		{
			Scheme:     "zk",
			Form:       "zk://USER:PASSWORD@HOST:PORT,…",
			Usage:      "ZooKeeper 3.5.3 or later; user and password are its digest",
			Parameters: zkregistry.Parameters(),
			Open:       zkregistry.FromURL,
		},
	}
}
