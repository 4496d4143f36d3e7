// Package consulregistry finds and announces nodes through Consul agents.
//
// # Services
//
// A node is a service of the agent that the driver talks to, best the one on its own machine, with a TTL check. Programs
// that know nothing of Hull find it by name, address and port, in Consul's DNS too. What they do not need is in the
// service's meta data: hull-id, hull-owner, which is another for each process, and hull-00 and so on, the node's record
// (registry.EncodeNode) in pieces of 512 bytes, compressed if there would be more than sixty. The tag "hull:NAME" holds
// the service's name as Hull has it; Consul's own is the same if it is of lower-case letters, digits, dots and dashes,
// and escaped otherwise (registry.EscapeName), because Consul does not tell upper case from lower.
//
// A node that leaves on purpose stays for a minute or two as a service with a critical check and hull-left in its meta
// data, which says why; the agent then removes it. One whose check has been critical for ten minutes is removed, too.
//
// Services that others have registered are refused, unless the protocol they speak is given.
//
// A token needs service:write on the names that a program announces, and service:read and node:read on those it looks for.
//
// # What it costs
//
// A heartbeat is a request per node and interval to the agent, which tells the servers of changes only. A watch is a
// blocking query, of up to a minute; from a hundred services on they are shorter and take turns, because an agent takes
// two hundred connections from one address. Whether the agent, and a server behind it, is there is asked every three
// seconds, once for all watches.
//
// # Bad days
//
// The driver connects when it is first asked. An agent that does not answer for 2 s, or is silent for 3 s when asked
// whether there is a leader, fails the watches, and the Registry goes on with what it knows. Of several agents the next
// one is taken, and nodes are announced there. An index that goes back, as after a restart, begins anew. An entry that an
// agent has lost is noticed by a blocking query of its own, and announced again.
package consulregistry
