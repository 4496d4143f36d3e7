package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// What tables asks for is possible: with a context that has ended nothing is measured, but all is checked.
func TestTablesAreRuns(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	drawn := map[string]string{}
	for _, tb := range tables {
		args := strings.Fields(tb.args)
		if err := run(ctx, rivals(), args, io.Discard, io.Discard); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", tb.title, err)
		}
		if !tb.charts {
			continue
		}
		flags := map[string]string{"-shape": shapeUnary, "-size": "100"}
		for i, a := range args {
			if strings.HasPrefix(a, "-") && i+1 < len(args) {
				flags[a] = args[i+1]
			}
		}
		levels, err := parseLevels(flags["-shape"], flags["-c"], flags["-size"])
		if err != nil {
			t.Errorf("%s: %v", tb.title, err)
		}
		for _, lv := range levels {
			if other, ok := drawn[lv.String()]; ok {
				t.Errorf("%s and %s draw the same chart: %v", other, tb.title, lv)
			}
			drawn[lv.String()] = tb.title
		}
	}
	if len(drawn) == 0 {
		t.Error("no charts")
	}
}

func TestTablesRefuseWrongFlags(t *testing.T) {
	for _, args := range [][]string{{"more"}, {"-c", "1"}} {
		if err := runTables(t.Context(), rivals(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
