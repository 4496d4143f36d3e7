package main

import (
	"cmp"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A bar is one line of a chart.
type bar struct {
	name  string
	value float64
	own   bool // Hull's
}

// draw writes a chart of each level's ratios into dir: of throughput, or of the median latency where calls come one at a time.
func (rep *report) draw(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var levels []level
	for _, r := range rep.Rows {
		if !slices.Contains(levels, r.level) {
			levels = append(levels, r.level)
		}
	}
	for _, lv := range levels {
		what, unit := "calls per second", "longer is better"
		value := func(x *ratio) float64 { return x.PerSecond }
		switch {
		case lv.pinned():
			what, unit = "median latency", "shorter is better"
			value = func(x *ratio) float64 { return x.P50 }
		case hasBulk(lv.Shape):
			what, unit = "99th percentile of latency", "shorter is better"
			value = func(x *ratio) float64 { return x.P99 }
		case lv.Shape != shapeUnary:
			what = "messages per second"
		}
		var bars []bar
		for _, r := range rep.Rows {
			if r.level == lv && r.Ratio != nil && value(r.Ratio) > 0 {
				bars = append(bars, bar{r.Rival, value(r.Ratio), strings.HasPrefix(r.Rival, "hull")})
			}
		}
		if len(bars) < 2 {
			continue
		}
		slices.SortStableFunc(bars, func(a, b bar) int {
			if unit == "shorter is better" {
				return cmp.Compare(a.value, b.value)
			}
			return cmp.Compare(b.value, a.value)
		})
		title := fmt.Sprintf("%s, %s", lv.name(), lv.load())
		measured := fmt.Sprintf("%s, times that of %s; %s", what, rep.Base, unit)
		file := filepath.Join(dir, fmt.Sprintf("%s-c%d-%d.svg", lv.Shape, lv.C, lv.Size))
		if err := os.WriteFile(file, []byte(chart(title, measured, bars)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// name is the shape in words.
func (l level) name() string {
	switch l.Shape {
	case shapeBidi:
		return "Messages there and back on a stream"
	case shapePingPong:
		return "One message at a time on a stream"
	case shapeUp:
		return "Messages to the server"
	case shapeDown:
		return "Messages to the client"
	case shapeBesideCalls:
		return "Calls beside large answers"
	case shapeBesideStreams:
		return "Calls beside streams of large messages"
	case shapePingPongBeside:
		return "A message at a time on a stream beside streams of large ones"
	}
	return "Calls"
}

// load is what else there is to a level.
func (l level) load() string {
	switch l.Shape {
	case shapeBidi, shapeUp, shapeDown, shapePingPong:
		if l.C == 1 {
			return fmt.Sprintf("%d B, one stream", l.Size)
		}
		return fmt.Sprintf("%d B, %d streams", l.Size, l.C)
	}
	if l.C == 1 {
		return fmt.Sprintf("%d B, one at a time", l.Size)
	}
	return fmt.Sprintf("%d B, %d at a time", l.Size, l.C)
}

// The measures of a chart, in pixels.
const (
	chartWidth = 760
	chartLeft  = 150 // where bars begin
	chartRight = 70  // room for the number after the longest
	chartDigit = 40  // how wide that is
	chartTop   = 64
	chartLine  = 24
)

// chart returns an SVG picture of bars, which is readable on light and on dark pages.
func chart(title, measured string, bars []bar) string {
	most := 1.0
	for _, b := range bars {
		most = max(most, b.value)
	}
	scale := (chartWidth - chartLeft - chartRight) / most
	height := chartTop + chartLine*len(bars) + 12
	var w strings.Builder
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; } .measured { fill: #57606a; }
.own { fill: #0a6bd1; } .other { fill: #9aa4ae; } .base { stroke: #57606a; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .measured { fill: #9198a1; } .own { fill: #58a6ff; } .other { fill: #6e7681; } .base { stroke: #9198a1; }
}
</style>
<text class="title" x="8" y="22">%s</text>
<text class="measured" x="8" y="42">%s</text>
`, chartWidth, height, chartWidth, height, html.EscapeString(title+": "+measured), html.EscapeString(title), html.EscapeString(measured))
	for i, b := range bars {
		y := chartTop + i*chartLine
		class, length := "other", max(b.value*scale, 1)
		if b.own {
			class = "own"
		}
		number := chartLeft + length + 6
		if base := chartLeft + scale; number < base+6 && number+chartDigit > base { // not across the line
			number = base + 6
		}
		fmt.Fprintf(&w, `<text x="%d" y="%d" text-anchor="end">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="16" rx="2"/><text x="%.1f" y="%d">%s</text>
`, chartLeft-8, y+13, html.EscapeString(b.name), class, chartLeft, y, length, number, y+13, times(b.value))
	}
	fmt.Fprintf(&w, `<line class="base" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>
</svg>
`, chartLeft+scale, chartLeft+scale, chartTop-6, height-8)
	return w.String()
}
