package transport

import (
	"math"
	"strconv"
	"strings"
)

// HeaderLoad is where a node's Load travels over protocols other than the native one: in the trailer or header of the answer, in
// the text form of ORCA.
const HeaderLoad = "endpoint-load-metrics"

// loadForm begins ORCA's text form; loadInFlight is the name of the only metric that is read.
const (
	loadForm     = "TEXT "
	loadInFlight = "named_metrics.in_flight"
)

// AppendLoad appends what an answer says about its node, nothing if that is nothing.
func AppendLoad(md Metadata, l Load) Metadata {
	if l.InFlight == 0 {
		return md
	}
	return append(md, Field{HeaderLoad, loadForm + loadInFlight + "=" + strconv.FormatUint(uint64(l.InFlight-1), 10)})
}

// ReadLoad reads what AppendLoad wrote; get returns a header's first value. What makes no sense counts as not said.
func ReadLoad(get func(key string) string) Load {
	s, ok := strings.CutPrefix(get(HeaderLoad), loadForm)
	if !ok {
		return Load{}
	}
	for field := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		if name != loadInFlight {
			continue
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil && n >= 0 && n < math.MaxUint32 {
			return Load{InFlight: uint32(n) + 1}
		}
	}
	return Load{}
}
