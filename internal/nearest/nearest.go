// Package nearest finds names that somebody may have meant.
package nearest

import (
	"slices"
	"strings"
)

// Max is how many names Find returns at most.
const Max = 3

// Find returns up to Max of names that come near to name, the nearest first. Case does not matter; a name that contains
// the one that was asked for counts as near.
func Find(name string, names []string) []string {
	if name == "" {
		return nil
	}
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	limit := max(1, len(name)/3)
	lower := strings.ToLower(name)
	for _, n := range names {
		l := strings.ToLower(n)
		part := len(name) >= 3 && strings.Contains(l, lower)
		if n == name || !part && max(len(n), len(name))-min(len(n), len(name)) > limit {
			continue
		}
		d := distance(lower, l)
		if part {
			d = min(d, limit)
		}
		if d <= limit {
			found = append(found, candidate{n, d})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, c := range found[:min(Max, len(found))] {
		if c.distance <= found[0].distance+2 { // beside a much nearer one it only confuses
			out = append(out, c.name)
		}
	}
	return out
}

// distance is the number of bytes to insert, delete, replace or swap with their neighbour to get from a to b (optimal
// string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
