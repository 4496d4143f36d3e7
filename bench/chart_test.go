package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDraw(t *testing.T) {
	rep := &report{Base: "grpc"}
	for shape, n := range map[string]int{shapeUnary: 1, shapeBidi: 100} {
		for name, x := range map[string]float64{"grpc": 1, "hull": 8, "raw <tcp>": 3} {
			rep.Rows = append(rep.Rows, &row{level: level{C: n, Size: 100, Shape: shape}, Rival: name, Ratio: &ratio{PerSecond: x, P50: 1 / x, P99: 1}})
		}
	}
	rep.Rows = append(rep.Rows, &row{level: level{C: 7, Size: 100, Shape: shapeUnary}, Rival: "grpc"}) // failed: nothing to draw
	dir := filepath.Join(t.TempDir(), "img")
	if err := rep.draw(dir); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][2]string{
		"unary-c1-100.svg":  {"shorter is better", "0.12"},
		"bidi-c100-100.svg": {"messages per second", "8.00"},
	} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Error(err)
			continue
		}
		d := xml.NewDecoder(strings.NewReader(string(b)))
		bars := 0
		for {
			tok, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "rect" {
				bars++
			}
		}
		if s := string(b); bars != 3 || !strings.Contains(s, want[0]) || !strings.Contains(s, want[1]) || strings.Contains(s, "<tcp>") {
			t.Errorf("%s has %d bars:\n%s", file, bars, s)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("%d files, %v", len(files), err)
	}
}
