package main

import (
	"fmt"
	"slices"
	"strings"
)

// A body does something n times and reports the first time that it did not go as expected: what was refused must not count
// as fast. It may run on several goroutines at the same time.
type body func(n int) error

// A bench is one row of the comparison.
type bench struct {
	// Group is what it is about. Hull's benches are compared with the others of the same group.
	Group string
	// Name says whose it is and how it is set up.
	Name string
	// Hull: it is ours.
	Hull bool
	// Given: it is given the time, so that rivals are compared net of their clocks, too.
	Given bool
	// Nows and Sinces are how often it calls time.Now and time.Since each time, as read in its code.
	Nows, Sinces int
	// Setup makes a new one.
	Setup func() (body, error)
}

func (c *bench) title() string { return c.Group + ": " + c.Name }

// The clock's own cost is measured with the rest, in these two.
const (
	clockGroup = "clock"
	clockNow   = "time.Now"
	clockSince = "time.Since"
)

// cases returns all benches, those of a group together, Hull's first.
func cases() []bench {
	all := slices.Concat(floor(), hullGates(), hullDo(), hullHystrix(), hystrixGo(), gobreakers(), failsafes(), goZero(), rates())
	var order []string
	for _, c := range all {
		if !slices.Contains(order, c.Group) {
			order = append(order, c.Group)
		}
	}
	slices.SortStableFunc(all, func(a, b bench) int {
		return slices.Index(order, a.Group) - slices.Index(order, b.Group)
	})
	return all
}

// pick returns those of the groups in list, all if it is empty, and the clock.
func pick(all []bench, list string) ([]bench, error) {
	if list == "" {
		return all, nil
	}
	wanted := strings.Split(list, ",")
	for _, g := range wanted {
		if !slices.ContainsFunc(all, func(c bench) bool { return c.Group == g }) {
			return nil, fmt.Errorf("there is no group %q; there are %s", g, strings.Join(groups(all), ", "))
		}
	}
	return slices.DeleteFunc(all, func(c bench) bool { return c.Group != clockGroup && !slices.Contains(wanted, c.Group) }), nil
}

// groups returns the names of the groups in order.
func groups(all []bench) []string {
	var names []string
	for _, c := range all {
		names = append(names, c.Group)
	}
	return slices.Compact(names)
}
