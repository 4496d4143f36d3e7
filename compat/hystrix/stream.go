package hystrix

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hull-go/hull/policy"
)

const (
	// streamEvery is how often clients are told.
	streamEvery = time.Second
	// streamBuffer is how many events wait for a client that is slow; it misses what comes then.
	streamBuffer = 10
	// streamPatience is how long a client may take to take an event in before it is let go.
	streamPatience = 10 * time.Second
)

// StreamHandler shows all circuits, once a second, to the dashboards that are connected to it: an http.Handler for
// /hystrix.stream. It is made by NewStreamHandler and safe for concurrent use.
type StreamHandler struct {
	mu      sync.Mutex
	clients map[*streamClient]struct{}
	stop    chan struct{} // closed by Stop; nil while it is not started
	stopped chan struct{} // closed when the goroutine has ended
}

// streamClient is one connected dashboard.
type streamClient struct {
	events chan []byte
	gone   chan struct{} // closed by Stop
}

var _ http.Handler = (*StreamHandler)(nil)

// NewStreamHandler returns a handler whose clients hear nothing before Start.
func NewStreamHandler() *StreamHandler {
	return &StreamHandler{clients: make(map[*streamClient]struct{})}
}

// Start begins to tell clients. A handler that is started already stays as it is.
func (sh *StreamHandler) Start() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.stop != nil {
		return
	}
	sh.stop, sh.stopped = make(chan struct{}), make(chan struct{})
	go sh.loop(sh.stop, sh.stopped)
}

// Stop ends what Start began, and the connections of all clients. A handler that is not started stays as it is; one that is stopped can be
// started again.
func (sh *StreamHandler) Stop() {
	sh.mu.Lock()
	if sh.stop == nil {
		sh.mu.Unlock()
		return
	}
	stopped := sh.stopped
	close(sh.stop)
	sh.stop = nil
	for c := range sh.clients {
		close(c.gone)
	}
	clear(sh.clients)
	sh.mu.Unlock()
	<-stopped
}

// ServeHTTP sends events until the client goes, Stop is called, or the client does not take them in for ten seconds.
func (sh *StreamHandler) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	out := http.NewResponseController(rw)
	header := rw.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache")
	header.Set("Connection", "keep-alive")
	if err := out.Flush(); err != nil {
		header.Del("Connection")
		header.Del("Cache-Control")
		http.Error(rw, "Streaming unsupported!", http.StatusInternalServerError)
		return
	}
	c := sh.register()
	defer sh.unregister(c)
	for {
		select {
		case <-req.Context().Done():
			return
		case <-c.gone:
			return
		case event := <-c.events:
			// The server's own write timeout is for answers that end. Where it cannot be set, a slow client is the transport's business.
			_ = out.SetWriteDeadline(time.Now().Add(streamPatience))
			if _, err := rw.Write(event); err != nil {
				return
			}
			if err := out.Flush(); err != nil {
				return
			}
		}
	}
}

func (sh *StreamHandler) register() *streamClient {
	c := &streamClient{events: make(chan []byte, streamBuffer), gone: make(chan struct{})}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.clients == nil {
		sh.clients = make(map[*streamClient]struct{})
	}
	sh.clients[c] = struct{}{}
	return c
}

func (sh *StreamHandler) unregister(c *streamClient) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.clients, c)
}

// loop tells clients every second until stop is closed.
func (sh *StreamHandler) loop(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			sh.publish()
		}
	}
}

// publish sends the state of all circuits to all clients.
func (sh *StreamHandler) publish() {
	if !sh.watched() {
		return
	}
	var all []*CircuitBreaker
	for _, v := range circuits.byName.Range {
		all = append(all, v.(*CircuitBreaker))
	}
	slices.SortFunc(all, func(a, b *CircuitBreaker) int { return strings.Compare(a.Name, b.Name) })
	now := policy.Now()
	for _, c := range all {
		sh.send(c.commandEvent(now))
		sh.send(c.poolEvent(now))
	}
}

func (sh *StreamHandler) watched() bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return len(sh.clients) > 0
}

func (sh *StreamHandler) send(event any) {
	b, err := json.Marshal(event)
	if err != nil {
		logf("hystrix: the stream lacks an event: %v", err)
		return
	}
	line := slices.Concat([]byte("data:"), b, []byte("\n\n"))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for c := range sh.clients {
		select {
		case c.events <- line:
		default:
		}
	}
}
