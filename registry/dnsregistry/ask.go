package dnsregistry

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// tryTimeout is how long one server has to answer, rounds how often all of them are asked.
	tryTimeout = 2 * time.Second
	rounds     = 2
	// maxChain bounds the aliases that are followed.
	maxChain = 8
)

// ask returns the answer to a question, from whichever server answers, aliases followed.
func (d *Driver) ask(ctx context.Context, name string, t recordType) (*answer, error) {
	ttl := MaxTTL
	for range maxChain {
		a, err := d.askAny(ctx, name, t)
		if err != nil {
			return nil, err
		}
		a.ttl = min(a.ttl, ttl)
		if a.alias == "" {
			return a, nil
		}
		name, ttl = a.alias, a.ttl
	}
	return nil, fmt.Errorf("%s is an alias of an alias, more than %d times", name, maxChain)
}

func (d *Driver) askAny(ctx context.Context, name string, t recordType) (*answer, error) {
	first := int(d.good.Load())
	var errs []error
	for i := range rounds * len(d.opt.Servers) {
		n := (first + i) % len(d.opt.Servers)
		a, err := askServer(ctx, d.opt.Servers[n], name, t)
		if err == nil {
			d.good.Store(int64(n))
			return a, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if i < len(d.opt.Servers) {
			errs = append(errs, fmt.Errorf("%s: %w", d.opt.Servers[n], err))
		}
	}
	return nil, fmt.Errorf("no server answers for %s: %w", name, errors.Join(errs...))
}

func askServer(ctx context.Context, server, name string, t recordType) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	var random [2]byte
	_, _ = rand.Read(random[:]) // never fails
	id := binary.BigEndian.Uint16(random[:])
	query, err := question(id, name, t)
	if err != nil {
		return nil, err
	}
	a, err := exchange(ctx, "udp", server, query, id, name, t)
	if errors.Is(err, errTruncated) {
		return exchange(ctx, "tcp", server, query, id, name, t)
	}
	return a, err
}

// exchange sends a question and waits for its answer. Datagrams that are no answer to it are ignored: anyone can send
// some.
func exchange(ctx context.Context, network, server string, query []byte, id uint16, name string, t recordType) (*answer, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	for {
		var n int
		if network == "tcp" {
			if _, err := io.ReadFull(c, buf[:2]); err != nil {
				return nil, err
			}
			n = int(binary.BigEndian.Uint16(buf))
			if _, err := io.ReadFull(c, buf[:n]); err != nil {
				return nil, err
			}
		} else if n, err = c.Read(buf); err != nil {
			return nil, err
		}
		a, err := parse(buf[:n], id, name, t)
		if errors.Is(err, errForeign) && network == "udp" {
			continue
		}
		if errors.Is(err, errTruncated) && network == "tcp" {
			return nil, errors.New("the answer does not fit into 64 KiB")
		}
		return a, err
	}
}
