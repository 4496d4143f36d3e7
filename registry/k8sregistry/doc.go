// Package k8sregistry finds nodes through Kubernetes: they are what the EndpointSlices of a Service list. It announces
// nothing, since Kubernetes knows by itself which pods there are; who may read is all it needs permission for.
//
// # Services and nodes
//
// The service "greeter" is the Service greeter of the driver's namespace, "greeter.shop" the one of namespace shop. With
// Options.Label names are the values of a label instead, which several Services may share: one for each version, say.
//
// A node is a pod, whatever slices it is in, called after the pod; what is no pod is called after its address. Its port is
// the one that Options.Port names, by name or number. Without it that is a slice's only TCP port, or the one called hull,
// grpc or http, in this order. Of a pod with two addresses one is taken, the IPv4 one unless Options.Family says 6.
//
//	a slice says of an endpoint             it is
//	ready                                   a node
//	terminating, but still serving          a node that is Draining: believed at once
//	terminating, not serving                gone: believed at once
//	not ready, and half of all others are   gone: believed at once
//	not ready, and most others neither      vanished: the Registry may disbelieve it
//	no longer listed                        vanished, or gone if it was draining
//
// So a pod that fails its readiness probe is not called. When most do so in one moment it is more likely that Kubernetes is
// wrong, as when it has lost the way to a zone, or that they have a failure in common, which nobody else could make up for.
//
// # What is known of a node
//
// Zone comes with the slice. The labels of a Service are its slices', and so its nodes' (those that Kubernetes sets
// apart), together with "node", the machine. The label hull.dev/version is the version, or app.kubernetes.io/version; it holds
// for all pods of a Service, because a slice knows nothing of a pod's own labels. Protocols come from the port's
// appProtocol: "http", "grpc", "kubernetes.io/h2c" (gRPC), or "hull.dev/1" for servers of Hull; or from Options.Protocols; or
// callers find out. There is no region and no start time. If the label hull.dev/node-id is "pod", the pods are Hull's servers
// that call themselves by their pod's name (hull.NodeID), which callers can then verify.
//
// With Options.Annotations the Service's own annotations are read, too: hull.dev/weight, hull.dev/protocols (separated by
// commas), and hull.dev/methods, one a line: "greeter.Greeter/Hello idempotent", or side-effect-free, or nothing. Methods that
// are not in the list are not called, so it has to be complete. It costs a second watch per service, and the permission. Without
// it, say in the specification which methods are idempotent.
//
// # List and watch
//
// Each service is listed, in pages, and then watched from there, by one request that the API server ends after some
// minutes and that goes on where it ended. After any other end, and when the server has forgotten the place (410 Gone), the
// service is listed anew: a cluster that has been restored from a backup counts from an earlier number, and would never tell what
// happened since. The first pause after a failure is up to 100 ms, the longest 5 s. A failure of less than 2 s is not
// worth a word. The connection is asked every 5 s whether it lives (HTTP/2 PING) and has 3 s to answer, so that an API server
// that is silent is noticed within ten seconds. A connection without HTTP/2, as through kubectl proxy, is not asked; a watch
// that has died silently is then found out when the Registry lists the service again (registry.Options.Relist).
//
// The token is read anew from its file for each request, since Kubernetes replaces it about once an hour; the certificates of
// the cluster are when they do not fit any more.
//
// # Why not client-go
//
// A program that lists and watches EndpointSlices by client-go's informers has 38.8 MB, or 36.1 MB with its plain clients, and
// 9.6 MB with net/http, encoding/json and a YAML reader for kubeconfig files; the program hull grows by 0.2 MB. And informers
// go back to 30 s between tries, where a new node should be found within 5 s of an engine's return. What is left out is the
// ways to log in that run other programs; kubectl proxy stands in for them.
package k8sregistry
