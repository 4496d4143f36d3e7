package hull_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hull-go/hull"
	"github.com/hull-go/hull/policy"
)

// TestStoriesSpeakInWords is that whoever reads a story need not know Hull's names for what can happen: each class, each verdict and each reason is said in words, and
// the names that programs read stand beside them in docs/explain.md.
func TestStoriesSpeakInWords(t *testing.T) {
	doc, err := os.ReadFile("docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]policy.Class{}
	c := policy.ClassOK
	for ; c.String() != "invalid"; c++ {
		words := c.Words()
		if other, twice := said[words]; twice {
			t.Errorf("%v and %v are both %q", c, other, words)
		}
		said[words] = c
		if c != policy.ClassOK { // everybody knows what that means
			inWords(t, c.String(), words)
		}
		if !strings.Contains(string(doc), fmt.Sprintf("| `%s` | %s |", c, words)) {
			t.Errorf("docs/explain.md does not have | `%s` | %s |", c, words)
		}
		info := hull.CallInfo{Service: "shop", Method: "shop.S/Get", Class: c, Took: time.Second,
			Attempts: []hull.AttemptInfo{{Node: "a", Address: "h:1", Class: c, Took: time.Millisecond}}}
		want := "shop shop.S/Get: " + words + " after 1s\n  attempt   1 at +0s to a (h:1): " + words + " after 1ms"
		if got := info.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	if w := c.Words(); w != "invalid" {
		t.Errorf("no class: %q", w)
	}
	for _, state := range []string{"stale", "not asked yet", "resting", "no such service"} {
		inWords(t, state, "discovery "+hull.DiscoveryWords(state))
	}
	for d, want := range map[policy.Decision]string{policy.Probe: "let it go as a probe at +0s", policy.Refuse: "refused at +0s: so it is", policy.Wait: "waited 1s from +0s on: so it is",
		policy.Park: "waited 1s in line from +0s on: so it is"} {
		v := hull.VerdictInfo{Policy: "gate", Decision: d, Took: time.Second}
		if d != policy.Probe {
			v.Reason = "so it is"
		}
		info := hull.CallInfo{Verdicts: []hull.VerdictInfo{v}}
		if got := info.String(); !strings.HasSuffix(got, "\n  gate      "+want) {
			t.Errorf("%v: got\n%s\nwant\n%s", d, got, want)
		}
	}
}

// TestReasonsAreWords looks for every constant reason that a policy, a balancer or the front door gives, in the source: each is a piece of a sentence, and no refusal
// is without one.
func TestReasonsAreWords(t *testing.T) {
	reasons := 0
	check := func(at gotoken.Position, e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != gotoken.STRING {
			return // one of the constants, or made at run time
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil || text == "" {
			return
		}
		reasons++
		inWords(t, at.String(), text)
	}
	fset := gotoken.NewFileSet()
	for _, dir := range []string{".", "policy", "balance"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (dir == "." && path != "." || d.Name() == "policytest"): // which plays a server
				return fs.SkipDir
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			f, err := parser.ParseFile(fset, path, nil, 0)
			if err != nil {
				return err
			}
			for _, decl := range f.Decls {
				lookForReasons(decl, func(e ast.Expr) { check(fset.Position(e.Pos()), e) }, func(n ast.Node) {
					t.Errorf("%v: a refusal without a reason", fset.Position(n.Pos()))
				})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if reasons < 50 {
		t.Errorf("%d reasons were found: the test does not test that", reasons)
	}
}

// lookForReasons tells of every expression in decl that is a reason, and of every refusal that has none.
func lookForReasons(decl ast.Decl, reason func(ast.Expr), none func(ast.Node)) {
	isReason := regexp.MustCompile(`^([wW]hy([A-Z].*)?|Reason|stopped|Stopped)$`)
	name := func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.Ident:
			return e.Name
		case *ast.SelectorExpr:
			return e.Sel.Name
		}
		return ""
	}
	later := false // a reason is filled in after the refusal was made
	var bare []ast.Node
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i, v := range n.Values {
				if isReason.MatchString(n.Names[i].Name) {
					reason(v)
				}
			}
		case *ast.AssignStmt:
			for i, l := range n.Lhs {
				if isReason.MatchString(name(l)) && len(n.Rhs) == len(n.Lhs) {
					reason(n.Rhs[i])
					later = later || name(l) == "Reason"
				}
			}
		case *ast.CallExpr:
			if name(n.Fun) == "stop" && len(n.Args) == 2 {
				reason(n.Args[1])
			}
		case *ast.CompositeLit:
			kind := ""
			if n.Type != nil {
				kind = name(n.Type)
			}
			if kind == "Event" {
				return true // what changed, not why a call was refused
			}
			refuses, why := false, false
			for _, e := range n.Elts {
				kv, ok := e.(*ast.KeyValueExpr)
				if !ok {
					continue
				}
				if isReason.MatchString(name(kv.Key)) {
					why = true
					reason(kv.Value)
				}
				refuses = refuses || name(kv.Key) == "Decision" && name(kv.Value) == "Refuse"
			}
			if kind == "Verdict" && refuses && !why {
				bare = append(bare, n)
			}
		}
		return true
	})
	if !later {
		for _, n := range bare {
			none(n)
		}
	}
}

// inWords fails the test unless text is a piece of a sentence, and no name for something.
func inWords(t *testing.T, of, text string) {
	t.Helper()
	words := strings.Fields(text)
	if len(words) < 2 || len(text) < 9 || text[0] >= 'A' && text[0] <= 'Z' || strings.HasSuffix(text, ".") {
		t.Errorf("%s: %q is not a piece of a sentence", of, text)
	}
}
