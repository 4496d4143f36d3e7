package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hull-go/hull/registry"
)

// atOnce is how many services or nodes are asked at the same time.
const atOnce = 16

// serviceView is a service as "hull list" prints it.
type serviceView struct {
	Name     string   `json:"name" doc:"the name in discovery"`
	Nodes    int      `json:"nodes" doc:"how many nodes there are, the others below included"`
	Draining int      `json:"draining" doc:"how many of them are about to leave"`
	Doubtful int      `json:"doubtful" doc:"how many of them are no longer listed, but that is not believed yet"`
	Versions []string `json:"versions" doc:"the versions they publish"`
	Methods  int      `json:"methods" doc:"how many methods they publish"`
	Stale    bool     `json:"stale" doc:"the registry does not answer; this is what was last known"`
}

// list is "hull list".
func (p *program) list() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the services that discovery knows",
		Args:  p.arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := p.openRegistry(cmd, p.warnings())
			if err != nil {
				return err
			}
			defer r.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), durationOf(cmd, setTimeout))
			defer cancel()
			found, err := lookupAll(ctx, r)
			if err != nil {
				return err
			}
			views := make([]serviceView, 0, len(found))
			for _, s := range found {
				views = append(views, viewService(s))
			}
			if p.wantsJSON(cmd) {
				return p.printJSON(views)
			}
			if len(views) == 0 {
				p.note("no service is registered at %s", registryName(textOf(cmd, setRegistry)))
				return nil
			}
			t := table{head: []string{"SERVICE", "NODES", "VERSIONS", "METHODS", "NOTE"}}
			for _, v := range views {
				t.add(v.Name, strconv.Itoa(v.Nodes), strings.Join(v.Versions, ","), strconv.Itoa(v.Methods), v.note())
			}
			t.print(p.Stdout, p.colours())
			return nil
		},
	}
}

func viewService(s *registry.Service) serviceView {
	v := serviceView{Name: s.Name, Nodes: len(s.Nodes), Doubtful: s.Disbelieved, Versions: versionsOf(s.Nodes),
		Methods: len(methodsOf(s.Nodes)), Stale: s.Stale}
	for _, n := range s.Nodes {
		if n.Draining && !n.Absent {
			v.Draining++
		}
	}
	return v
}

// note is what is out of the ordinary.
func (v *serviceView) note() string {
	var parts []string
	if v.Stale {
		parts = append(parts, "stale")
	}
	if v.Draining > 0 {
		parts = append(parts, fmt.Sprintf("%d draining", v.Draining))
	}
	if v.Doubtful > 0 {
		parts = append(parts, fmt.Sprintf("%d doubtful", v.Doubtful))
	}
	return strings.Join(parts, ", ")
}

// lookupAll looks up every service there is. One that leaves meanwhile is left out.
func lookupAll(ctx context.Context, r *registry.Registry) ([]*registry.Service, error) {
	all, err := names(ctx, r)
	if err != nil {
		return nil, err
	}
	found := make([]*registry.Service, len(all))
	errs := make([]error, len(all))
	each(len(all), func(i int) { found[i], errs[i] = lookup(ctx, r, all[i]) })
	var services []*registry.Service
	for i, s := range found {
		if _, gone := errors.AsType[*registry.NotFoundError](errs[i]); gone {
			continue
		}
		if errs[i] != nil {
			return nil, errs[i]
		}
		services = append(services, s)
	}
	return services, nil
}

// each calls f for 0 … n-1, a few at a time, and waits.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}

// millis is a duration for programs.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
