package hull

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Explain returns a context, and where every call and stream that a client makes with it, or with one derived from it, tells its whole story when it has
// ended: what Explained tells of one. If the context is of another Explain, they are told there too. A call that a handler makes so tells its own caller too, if
// that asks.
func Explain(ctx context.Context) (context.Context, *Explanation) {
	parent, outer := surroundings(ctx)
	e := &Explanation{outer: outer}
	return context.WithValue(ctx, incomingKey{}, &surrounding{parent, e}), e
}

// surrounding is what a context of Explain has for incomingKey.
type surrounding struct {
	parent *incoming
	told   *Explanation
}

// surroundings returns the call that is being served with ctx, nil at the root of a call tree, and who is to hear the stories of calls that are made with
// it, nil = nobody. Every call asks, so that a walk through the context tells both.
func surroundings(ctx context.Context) (parent *incoming, told *Explanation) {
	switch v := ctx.Value(incomingKey{}).(type) {
	case *incoming:
		return v, v.explanation()
	case *surrounding:
		return v.parent, v.told
	}
	return nil, nil
}

// explanation returns who hears the stories of calls for c, if the context that a transport made for it says so.
func (c *incoming) explanation() *Explanation {
	if c.whole() {
		return nil
	}
	_, told := surroundings(c.base())
	return told
}

const (
	// maxExplained is how many stories an Explanation keeps, and maxExplainedNodes of how many nodes in all of them.
	maxExplained      = 100
	maxExplainedNodes = 1000
)

// Explanation has the stories of the calls that were made with one context. It is safe for concurrent use. The zero value has none.
type Explanation struct {
	outer *Explanation // that of the context which its own was made from

	mu      sync.Mutex
	calls   []*CallInfo
	nodes   int
	omitted int
}

// Calls returns the stories of the calls that have ended, in that order: the first hundred. How nodes stood is left out of those at which there would be more than
// a thousand in all. They must not be changed.
func (e *Explanation) Calls() []*CallInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

// Omitted returns how many calls more have ended.
func (e *Explanation) Omitted() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.omitted
}

// String tells all stories as CallInfos do, each with its lines.
func (e *Explanation) String() string {
	var b strings.Builder
	for _, i := range e.Calls() {
		b.WriteString(i.String())
		b.WriteByte('\n')
	}
	if n := e.Omitted(); n > 0 {
		fmt.Fprintf(&b, "and %d more calls\n", n)
	}
	return b.String()
}

// add takes in the story of a call that has ended, which stays its caller's.
func (e *Explanation) add(i *CallInfo) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.calls) == maxExplained {
		e.omitted++
		return
	}
	c := *i
	c.Attempts, c.Verdicts = slices.Clone(i.Attempts), slices.Clone(i.Verdicts) // the caller may use the room again
	if e.nodes += len(c.Nodes); e.nodes > maxExplainedNodes {
		e.nodes, c.Nodes = e.nodes-len(c.Nodes), nil
	}
	e.calls = append(e.calls, &c)
}

// watch has the story of a call told to the Explanation of its context, if there is one. A call that stands in for another is part of that one's.
func (p *prepared) watch(e *Explanation) {
	if e == nil || p.opt.from != nil {
		return
	}
	p.explanation = e
	p.explainAll()
}

// explainAll has the whole story noted.
func (p *prepared) explainAll() {
	opt := p.change()
	opt.explain = true
	if opt.info == nil {
		opt.info = new(CallInfo)
	}
}
