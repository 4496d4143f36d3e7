// Package dnsregistry finds nodes through DNS: SRV records, or A and AAAA records and a port. It cannot register any.
//
// A service's name is put into a template, "{service}" unless told otherwise, which makes a full name:
//
//	dns://10.0.0.2:53/?name={service}.service.consul               SRV records of Consul
//	dns:///?name=_grpc._tcp.{service}.prod.svc.cluster.local        SRV records of a headless service in Kubernetes
//	dns:///?name={service}.internal&port=8080                       A and AAAA records, through the system's servers
//
// Each address is a node, whose ID is its host:port. Of SRV records those with the best priority are taken, with their
// weights.
//
// A name is asked for again when its answer's time is over: the least TTL in it, but at least 1 s and at most 30 s. An
// answer of "no such name" is one, too, with the time its SOA record says; the Registry disbelieves it where nodes were
// before. A server that fails or is silent is followed by the next; when none answers the Registry goes on with
// what it knows. Answers that do not fit into a datagram are asked for by TCP. A host that is given out by DNS proves
// nothing about who answers there, so that nodes which disappear are kept for a minute only.
package dnsregistry
