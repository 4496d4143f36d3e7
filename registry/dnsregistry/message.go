package dnsregistry

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

type recordType = dnsmessage.Type

const (
	typeA    = dnsmessage.TypeA
	typeAAAA = dnsmessage.TypeAAAA
	typeSRV  = dnsmessage.TypeSRV

	// maxDatagram is what is said to fit: it does on nearly every way through the internet.
	maxDatagram = 1232
)

var (
	errTruncated = errors.New("the answer is truncated")
	errForeign   = errors.New("an answer to another question")
)

// answer is what a server says.
type answer struct {
	ttl   time.Duration
	alias string // the name is one of this, about which the server says nothing
	ips   []net.IP
	srv   []target
	glue  map[string][]net.IP // addresses of targets that came along
}

// target is an SRV record.
type target struct {
	target                 string
	port, priority, weight uint16
}

// best returns the targets with the best priority.
func (a *answer) best() []target {
	least := uint16(math.MaxUint16)
	for _, s := range a.srv {
		least = min(least, s.priority)
	}
	var best []target
	for _, s := range a.srv {
		if s.priority == least && s.target != "." { // a dot says that there is no such service
			best = append(best, s)
		}
	}
	return best
}

// fullName returns a name as DNS writes it, in lower case and with a dot at the end.
func fullName(s string) (string, error) {
	s = strings.ToLower(strings.TrimSuffix(s, ".")) + "."
	if len(s) > 254 {
		return "", errors.New("longer than 253 bytes")
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("the part %.70q between dots has not 1 to 63 bytes", label)
		}
		for i := range len(label) {
			if c := label[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return "", errors.New("only letters, digits, dashes and underscores are possible")
			}
		}
	}
	return s, nil
}

// question makes a query.
func question(id uint16, name string, t recordType) ([]byte, error) {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, err
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(dnsmessage.Question{Name: n, Type: t, Class: dnsmessage.ClassINET}); err != nil {
		return nil, err
	}
	if err := b.StartAdditionals(); err != nil {
		return nil, err
	}
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(maxDatagram, dnsmessage.RCodeSuccess, false); err != nil {
		return nil, err
	}
	if err := b.OPTResource(h, dnsmessage.OPTResource{}); err != nil {
		return nil, err
	}
	return b.Finish()
}

// parse reads the answer to a question.
func parse(message []byte, id uint16, name string, t recordType) (*answer, error) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil {
		return nil, errForeign
	}
	q, err := p.AllQuestions()
	if err != nil || !h.Response || h.ID != id || len(q) != 1 || q[0].Type != t || q[0].Class != dnsmessage.ClassINET || lower(q[0].Name) != name {
		return nil, errForeign
	}
	if h.Truncated {
		return nil, errTruncated
	}
	if h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError {
		return nil, fmt.Errorf("it fails: %v", h.RCode)
	}
	records, err := p.AllAnswers()
	if err != nil {
		return nil, fmt.Errorf("a broken answer: %w", err)
	}
	a := &answer{ttl: MaxTTL}
	at := a.take(records, name, t)
	if len(a.ips)+len(a.srv) > 0 {
		if t == typeSRV {
			a.takeGlue(&p)
		}
		return a, nil
	}
	if at != name && h.RCode == dnsmessage.RCodeSuccess {
		a.alias = at
	}
	a.ttl = min(a.ttl, negativeTTL(&p))
	if a.alias != "" { // the rest of the chain is asked for
		a.ttl = max(a.ttl, MinTTL)
	}
	return a, nil
}

// take follows aliases from name through records, takes what there is at the end, and returns that.
func (a *answer) take(records []dnsmessage.Resource, name string, t recordType) string {
	for range maxChain {
		next := ""
		for i := range records {
			r := &records[i]
			if lower(r.Header.Name) != name || r.Header.Class != dnsmessage.ClassINET {
				continue
			}
			switch body := r.Body.(type) {
			case *dnsmessage.CNAMEResource:
				next = lower(body.CNAME)
			case *dnsmessage.AResource:
				if t != typeA {
					continue
				}
				a.ips = append(a.ips, body.A[:])
			case *dnsmessage.AAAAResource:
				if t != typeAAAA {
					continue
				}
				a.ips = append(a.ips, body.AAAA[:])
			case *dnsmessage.SRVResource:
				if t != typeSRV {
					continue
				}
				a.srv = append(a.srv, target{target: lower(body.Target), port: body.Port, priority: body.Priority, weight: body.Weight})
			default:
				continue
			}
			a.ttl = min(a.ttl, seconds(r.Header.TTL))
		}
		if next == "" || len(a.ips)+len(a.srv) > 0 {
			break
		}
		name = next
	}
	return name
}

// takeGlue takes the addresses that come along with SRV records. Broken ones are asked for.
func (a *answer) takeGlue(p *dnsmessage.Parser) {
	if p.SkipAllAuthorities() != nil {
		return
	}
	records, err := p.AllAdditionals()
	if err != nil {
		return
	}
	wanted := map[string]bool{}
	for _, s := range a.srv {
		wanted[s.target] = true
	}
	a.glue = map[string][]net.IP{}
	for _, r := range records {
		name := lower(r.Header.Name)
		if !wanted[name] || r.Header.Class != dnsmessage.ClassINET {
			continue
		}
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			a.glue[name] = append(a.glue[name], body.A[:])
		case *dnsmessage.AAAAResource:
			a.glue[name] = append(a.glue[name], body.AAAA[:])
		default:
			continue
		}
		a.ttl = min(a.ttl, seconds(r.Header.TTL))
	}
}

// negativeTTL is how long it is true that there is nothing, as the zone's SOA record says.
func negativeTTL(p *dnsmessage.Parser) time.Duration {
	records, err := p.AllAuthorities()
	if err != nil {
		return MinTTL
	}
	for _, r := range records {
		if soa, ok := r.Body.(*dnsmessage.SOAResource); ok {
			return min(seconds(r.Header.TTL), seconds(soa.MinTTL))
		}
	}
	return MinTTL
}

func seconds(ttl uint32) time.Duration {
	if ttl > math.MaxInt32 { // RFC 2181: the top bit means 0
		return 0
	}
	return time.Duration(ttl) * time.Second
}

func lower(n dnsmessage.Name) string { return strings.ToLower(n.String()) }
