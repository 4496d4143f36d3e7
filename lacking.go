package hull

import (
	"strings"

	"github.com/hull-go/hull/status"
)

// lacksMethod reports whether a server has said that it does not serve the method of a call at all. Handlers use the same code for what they cannot do for one
// caller, and that must not send every other call of the method to the nodes of another version, which may be few: so what is no Hull server is taken at its
// word only if it uses the words of gRPC's own libraries.
func lacksMethod(e *status.Error) bool {
	switch {
	case e == nil || e.Origin == status.Downstream:
		return false
	case e.Kind == status.NoMethod:
		return true
	case e.Code != status.Unimplemented:
		return false
	}
	for _, words := range [...]string{
		"unknown service ", "unknown method ", // Go
		"Method not found",                          // Java, Python
		"The server does not implement the method ", // JavaScript
	} {
		if strings.HasPrefix(e.Message, words) {
			return true
		}
	}
	return strings.HasPrefix(e.Message, "method ") && strings.HasSuffix(e.Message, " not implemented") // generated Go code
}
