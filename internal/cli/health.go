package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/registry"
	"github.com/hull-go/hull/status"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

// healthMethod is the one that gRPC's health protocol defines. A node without it answers that it has no such method, which
// proves as much as this program can ask: that the node reads, decides and answers.
const healthMethod = "grpc.health.v1.Health/Check"

// What a node's health can be.
const (
	healthServing     = "serving"     // its health service says so
	healthAnswers     = "answers"     // it answers calls, and has no health service
	healthReachable   = "reachable"   // it takes connections; what it speaks is not the native protocol
	healthFailing     = "failing"     // its health service says that it does not serve, or answers with an error
	healthSilent      = "silent"      // it took the connection and then said nothing, or nothing sensible
	healthUnreachable = "unreachable" // no connection
)

// healthView is the health of a node as "hull health" prints it.
type healthView struct {
	Service string  `json:"service" doc:"the name in discovery"`
	Node    string  `json:"node" doc:"the node's own name"`
	Address string  `json:"address" doc:"host:port"`
	Healthy bool    `json:"healthy" doc:"true for serving, answers and reachable"`
	Health  string  `json:"health" doc:"serving (its grpc.health.v1 service says so), answers (to calls, and has no health service), reachable (takes connections, and speaks something else than hull/1), failing (its health service says no), silent (takes connections and does not answer), or unreachable"`
	TookMS  float64 `json:"tookMs" doc:"how long it took to find out, in milliseconds"`
	Error   string  `json:"error,omitempty" doc:"what went wrong"`
}

// health is "hull health".
func (p *program) health() *cobra.Command {
	return &cobra.Command{
		Use:   "health [SERVICE]",
		Short: "Connect to each node and ask how it is",
		Long: `Connect to each node of a service, or of all services, and ask how it is. The exit code is 1 if a
service has no healthy node.`,
		Example:           "hull health\nhull health greeter --timeout 500ms -o json",
		Args:              p.arguments(0, "SERVICE"),
		ValidArgsFunction: p.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := selectorOf(cmd)
			if err != nil {
				return err
			}
			r, err := p.openRegistry(cmd, p.warnings())
			if err != nil {
				return err
			}
			defer r.Close()
			nodes, err := nodesToAsk(cmd, r, args)
			if err != nil {
				return err
			}
			nodes = matching(nodes, sel)
			if len(nodes) == 0 {
				return &notFoundError{fmt.Sprintf("no node to ask: no service at %s has one that matches", textOf(cmd, setRegistry))}
			}
			views, err := askAll(cmd.Context(), nodes, durationOf(cmd, setTimeout))
			if err != nil {
				return err
			}
			if err := p.printHealth(cmd, views); err != nil {
				return err
			}
			return verdict(views)
		},
	}
}

// nodesToAsk returns the nodes of the service that args name, or of all.
func nodesToAsk(cmd *cobra.Command, r *registry.Registry, args []string) ([]*registry.Node, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), durationOf(cmd, setTimeout))
	defer cancel()
	if len(args) == 1 {
		s, err := lookup(ctx, r, args[0])
		if err != nil {
			return nil, err
		}
		return s.Nodes, nil
	}
	services, err := lookupAll(ctx, r)
	if err != nil {
		return nil, err
	}
	var nodes []*registry.Node
	for _, s := range services {
		nodes = append(nodes, s.Nodes...)
	}
	return nodes, nil
}

// askAll asks nodes how they are, each within timeout.
func askAll(ctx context.Context, nodes []*registry.Node, timeout time.Duration) ([]healthView, error) {
	views := make([]healthView, len(nodes))
	each(len(nodes), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		began := time.Now()
		health, err := ask(ctx, nodes[i])
		v := healthView{Service: nodes[i].Service, Node: nodes[i].ID, Address: nodes[i].Address, Health: health,
			TookMS: millis(time.Since(began))}
		v.Healthy = health == healthServing || health == healthAnswers || health == healthReachable
		if err != nil {
			v.Error = err.Error()
		}
		views[i] = v
	})
	return views, ctx.Err()
}

// ask asks one node.
func ask(ctx context.Context, n *registry.Node) (health string, err error) {
	connected := false
	tcp := func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		connected = err == nil
		return c, err
	}
	if len(n.Protocols) > 0 && !n.Speaks(protocolNative) {
		c, err := tcp(ctx, n.Address)
		if err != nil {
			return healthUnreachable, err
		}
		c.Close()
		return healthReachable, nil
	}
	dialer, err := muxtransport.NewDialer(muxtransport.Options{Dial: tcp})
	if err != nil {
		return healthUnreachable, err
	}
	conn, failed := dialer.Dial(ctx, n.Address)
	switch {
	case failed != nil && connected:
		return healthSilent, failed
	case failed != nil:
		return healthUnreachable, failed
	}
	defer conn.Close()
	var answer struct {
		Status json.RawMessage `json:"status"`
	}
	req := transport.Request{Method: healthMethod, Codec: codec.JSON{}, Message: struct{}{}, PathAttempt: 1}
	if d, ok := ctx.Deadline(); ok {
		req.Deadline = policy.At(d)
	}
	rep := transport.Reply{Message: &answer}
	failed = conn.Call(ctx, &req, &rep)
	switch {
	case failed == nil && (string(answer.Status) == `"SERVING"` || string(answer.Status) == "1"):
		return healthServing, nil
	case failed == nil:
		return healthFailing, fmt.Errorf("its health service answers %s", plainLine(string(answer.Status)))
	case failed.Code == status.Unimplemented:
		return healthAnswers, nil
	case failed.Fate == status.Processed:
		return healthFailing, failed
	}
	return healthSilent, failed
}

func (p *program) printHealth(cmd *cobra.Command, views []healthView) error {
	if p.wantsJSON(cmd) {
		return p.printJSON(views)
	}
	t := table{head: []string{"SERVICE", "NODE", "ADDRESS", "HEALTH", "TOOK", "NOTE"},
		paint: func(column int, cell string) colour {
			if column != 3 {
				return none
			}
			return colourOf(cell)
		}}
	for _, v := range views {
		t.add(v.Service, v.Node, v.Address, v.Health, fmt.Sprintf("%.1fms", v.TookMS), v.Error)
	}
	t.print(p.Stdout, p.colours())
	return nil
}

// verdict is an error if a service has no healthy node.
func verdict(views []healthView) error {
	healthy := map[string]bool{}
	for _, v := range views {
		healthy[v.Service] = healthy[v.Service] || v.Healthy
	}
	for _, v := range views {
		if !healthy[v.Service] {
			return fmt.Errorf("no node of service %q is healthy", v.Service)
		}
	}
	return nil
}
