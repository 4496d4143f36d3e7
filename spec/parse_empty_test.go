package spec

import (
	"strings"
	"testing"
)

// TestParseNothing is that a document in which nothing stands is not the wish to lose every policy: files are truncated, variables unset, requests sent
// without a body.
func TestParseNothing(t *testing.T) {
	for _, name := range []string{"a.yaml", "a.json", ""} {
		for _, doc := range []string{"", "\n", " \t\r\n", "\ufeff", "null", "null\n", "~", "---", "---\n", "# services: {}\n", "---\n# nothing\n...\n"} {
			if s, err := Parse(name, []byte(doc)); err == nil {
				t.Errorf("%s: %q means %+v", name, doc, s)
			} else if !strings.HasSuffix(name, ".json") && !strings.Contains(err.Error(), "it is empty: write {} for the defaults") {
				t.Errorf("%s: %q: %v", name, doc, err)
			}
		}
		for _, doc := range []string{"{}", "{}\n", " {\n}"} {
			if _, err := Parse(name, []byte(doc)); err != nil {
				t.Errorf("%s: %q: %v", name, doc, err)
			}
		}
	}
}
