package hull

import (
	"log/slog"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/metadata"

	"github.com/hull-go/hull/transport"
)

// unsayable leaves out of answers what a handler says in metadata and HTTP cannot carry: there one such value costs the caller the whole answer. It does so over every
// protocol, so that a handler's words do not depend on who hears them.
type unsayable struct {
	mu   sync.Mutex
	keys map[string]struct{} // that were logged
}

// mostUnsayable is how many keys are logged, each once: a handler may make them of what it is sent.
const mostUnsayable = 100

// answer returns what can be said of md.
func (u *unsayable) answer(md metadata.MD, method string, log *slog.Logger) transport.Metadata {
	return slices.DeleteFunc(fromMD(md), func(f transport.Field) bool {
		bad := !sayable(f)
		if bad && u.note(f.Key) {
			log.Warn("left out of an answer's metadata: HTTP has no such keys and no control bytes in values; let the key end in -bin",
				"method", method, "key", f.Key)
		}
		return bad
	})
}

// note reports whether it has not heard of key before.
func (u *unsayable) note(key string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.keys[key]; ok || len(u.keys) >= mostUnsayable {
		return false
	}
	if u.keys == nil {
		u.keys = map[string]struct{}{}
	}
	u.keys[key] = struct{}{}
	return true
}

// sayable reports whether HTTP carries a field: a key as gRPC has them, and no control bytes, except for tabs and in binary values.
func sayable(f transport.Field) bool {
	if f.Key == "" {
		return false
	}
	for _, b := range []byte(f.Key) {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' && b != '_' && b != '.' {
			return false
		}
	}
	if strings.HasSuffix(f.Key, "-bin") {
		return true
	}
	for _, b := range []byte(f.Value) {
		if b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}
