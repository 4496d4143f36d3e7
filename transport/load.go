package transport

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
)

// The headers in which a node's Load travels over protocols other than the native one, which are ORCA's.
const (
	// HeaderLoadFormat asks for it, in the request; its value is LoadText or LoadBinary. An answer that nobody has asked for says nothing.
	HeaderLoadFormat = "endpoint-load-metrics-format"
	// HeaderLoad is in the trailer of the answer, or its header, as text.
	HeaderLoad = "endpoint-load-metrics"
	// HeaderLoadBinary is the same as an encoded xds.data.orca.v3.OrcaLoadReport, for callers that know no other form.
	HeaderLoadBinary = HeaderLoad + "-bin"

	LoadText   = "TEXT"
	LoadBinary = "BIN"
)

// loadForm begins ORCA's text form; loadInFlight is the name of the only metric that is read.
const (
	loadForm     = LoadText + " "
	loadInFlight = "named_metrics.in_flight"
)

// AppendLoad appends what an answer says about its node, in the form that the request's HeaderLoadFormat asked for; nothing if that is
// nothing, or nobody has asked.
func AppendLoad(md Metadata, l Load, format string) Metadata {
	if l.InFlight == 0 {
		return md
	}
	switch format {
	case LoadText:
		return append(md, Field{HeaderLoad, loadForm + loadInFlight + "=" + strconv.FormatUint(uint64(l.InFlight-1), 10)})
	case LoadBinary:
		return append(md, Field{HeaderLoadBinary, string(loadReport(float64(l.InFlight - 1)))})
	}
	return md
}

// loadReport encodes an OrcaLoadReport whose map of named metrics, field 8, has one entry.
func loadReport(inFlight float64) []byte {
	const (
		lengthDelimited, fixed64 = 2, 1
		name                     = "in_flight"
	)
	entry := append([]byte{1<<3 | lengthDelimited, byte(len(name))}, name...)
	entry = binary.LittleEndian.AppendUint64(append(entry, 2<<3|fixed64), math.Float64bits(inFlight))
	return append([]byte{8<<3 | lengthDelimited, byte(len(entry))}, entry...)
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
