package hull

import (
	"time"

	"github.com/hull-go/hull/idempotency"
	"github.com/hull-go/hull/policy/admission"
)

type serverState struct {
	Service   string        `json:"service"`
	Node      string        `json:"node"`
	Address   string        `json:"address"`
	Phase     string        `json:"phase"`
	Why       string        `json:"why,omitempty"` // of the phase
	Origin    originJSON    `json:"origin"`        // of its document
	InFlight  int64         `json:"inFlight"`
	Calls     int64         `json:"calls"`
	Failures  int64         `json:"failures"`
	Admission admissionJSON `json:"admission"`
	Keys      keysJSON      `json:"keys"`
	Port      portJSON      `json:"port"`
}

// admissionJSON is which calls a server takes on.
type admissionJSON struct {
	Mode      string      `json:"mode"` // of the limit
	Running   int64       `json:"running"`
	Limit     int64       `json:"limit"`
	Reserved  int64       `json:"reserved"` // of those that run, in the reserve of their method
	Waiting   int64       `json:"waiting"`
	Queue     int64       `json:"queue"`
	Refused   refusedJSON `json:"refused"`
	WouldBe   refusedJSON `json:"dryRefused"`
	Late      int64       `json:"late"` // got a place when their time was over
	Parked    int64       `json:"parked"`
	Abandoned int64       `json:"abandoned"`
	Lost      int64       `json:"lost"` // abandoned, ever
	Stuck     bool        `json:"stuck,omitempty"`
	Dropping  bool        `json:"dropping,omitempty"`
	LongestMS float64     `json:"longestMs"`
	Classes   []classJSON `json:"classes"`

	Rate     *serverRateJSON `json:"rate,omitempty"`
	Pressure pressureJSON    `json:"pressure"`
	Methods  []servedMethod  `json:"methods"`
}

type refusedJSON struct {
	Limit    int64 `json:"limit"`
	Rate     int64 `json:"rate"`
	Pressure int64 `json:"pressure"`
}

func (r refusedJSON) sum() int64 { return r.Limit + r.Rate + r.Pressure }

// classJSON is how calls of one criticality fare in the line.
type classJSON struct {
	Class   string  `json:"class"`
	Waiting int64   `json:"waiting"`
	Lost    int64   `json:"lost"` // the line was too long for them
	Shed    float64 `json:"shed"` // share that is refused before the line
}

type serverRateJSON struct {
	Mode  string  `json:"mode"`
	Limit float64 `json:"limit"` // of each caller
	PerMS float64 `json:"perMs"`
	Burst int     `json:"burst,omitempty"`
}

type pressureJSON struct {
	Mode      string  `json:"mode"`
	Level     float64 `json:"level"` // above 0 sheddable calls are refused, above 1 sheddable-plus ones, above 2 critical ones
	LagMS     float64 `json:"lagMs"`
	Throttled float64 `json:"throttled"`
	Memory    float64 `json:"memory"`
}

type servedMethod struct {
	Name      string `json:"name"`
	Running   int64  `json:"running"`
	Reserved  int64  `json:"reserved"`
	Reserve   int64  `json:"reserve"`
	Abandoned int64  `json:"abandoned"`
}

// keysJSON is the window of calls with an idempotency key.
type keysJSON struct {
	Shared     bool    `json:"shared"` // with other nodes, through a Store
	KeepS      float64 `json:"keepS"`
	Kept       int64   `json:"kept"`
	Bytes      int64   `json:"bytes"`
	Started    int64   `json:"started"`
	Replayed   int64   `json:"replayed"`
	Waited     int64   `json:"waited"`
	Mismatched int64   `json:"mismatched"`
	Full       int64   `json:"full"`
	Doubtful   int64   `json:"doubtful"`
	Released   int64   `json:"released"`
	Unstored   int64   `json:"unstored"` // results and releases that the Store has not taken yet
	// Those that it will not hear of any more, see idempotency.Snapshot.
	DroppedResults  int64 `json:"droppedResults"`
	DroppedReleases int64 `json:"droppedReleases"`
}

func (s *Server) adminState() *serverState {
	n := s.Snapshot()
	phase, why, _ := s.life.now()
	return &serverState{Service: s.service, Node: s.NodeID(), Address: s.Addr(), Phase: phase.String(), Why: why, Origin: s.docOrigin(), InFlight: n.InFlight,
		Calls: n.Calls, Failures: n.Failures, Admission: viewAdmission(&n.Admission, s.desk.Rules()), Keys: viewKeys(n.Keys, s.opt.keys), Port: portJSON(n.Port)}
}

func viewAdmission(a *admission.Snapshot, r admission.Rules) admissionJSON {
	out := admissionJSON{Mode: r.Limit.Mode.String(), Running: a.Running, Limit: a.Limit, Reserved: a.Reserved, Waiting: a.Waiting, Queue: a.Queue,
		Refused: refusedJSON(a.Refused), WouldBe: refusedJSON(a.DryRefused), Late: a.Late, Parked: a.Parked, Abandoned: a.Abandoned, Lost: a.Lost,
		Stuck: a.Stuck, Dropping: a.Dropping, LongestMS: millis(a.LongestWaited), Methods: []servedMethod{},
		Pressure: pressureJSON{r.Pressure.Mode.String(), a.Pressure.Level, millis(a.Pressure.Signals.Lag), a.Pressure.Signals.Throttled, a.Pressure.Signals.Memory}}
	for _, c := range a.Classes {
		out.Classes = append(out.Classes, classJSON{c.Class.String(), c.Waiting, c.Lost, c.Shed})
	}
	if r.Rate.Limit > 0 {
		out.Rate = &serverRateJSON{r.Rate.Mode.String(), r.Rate.Limit, millis(r.Rate.Per), r.Rate.Burst}
	}
	for _, m := range a.Methods {
		out.Methods = append(out.Methods, servedMethod(m))
	}
	return out
}

func viewKeys(k idempotency.Snapshot, o idempotency.Options) keysJSON {
	return keysJSON{Shared: o.Store != nil, KeepS: orDefault(o.Keep, idempotency.DefaultKeep).Round(time.Millisecond).Seconds(), Kept: k.Keys, Bytes: k.Bytes, Started: k.Started,
		Replayed: k.Replayed, Waited: k.Waited, Mismatched: k.Mismatched, Full: k.Full, Doubtful: k.Doubtful, Released: k.Released, Unstored: k.Late,
		DroppedResults: k.DroppedResults, DroppedReleases: k.DroppedReleases}
}
