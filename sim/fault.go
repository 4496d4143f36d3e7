package sim

import "time"

// Fault is something that goes wrong for a while.
type Fault struct {
	// At is when it begins, For how long it lasts; 0 = to the end.
	At, For time.Duration
	// Do is what happens.
	Do Trouble
}

// Trouble begins (on), and ends if its Fault lasts for a while.
type Trouble func(l *Lab, on bool)

// each does something to some nodes of a service, all if none is named.
func each(service string, nodes []int, do func(n *node, on bool)) Trouble {
	return func(l *Lab, on bool) {
		for i, n := range l.byName[service].nodes {
			named := len(nodes) == 0
			for _, k := range nodes {
				named = named || k == i
			}
			if named {
				do(n, on)
			}
		}
	}
}

// Stall lets no work begin at nodes of a service, all if none is named.
func Stall(service string, d time.Duration, nodes ...int) Trouble {
	return each(service, nodes, func(n *node, on bool) {
		if on {
			n.stalled = n.lab.Now().Add(d)
		}
	})
}

// Slow makes work take factor times as long.
func Slow(service string, factor float64, nodes ...int) Trouble {
	return each(service, nodes, func(n *node, on bool) {
		if n.slow = 1; on {
			n.slow = factor
		}
	})
}

// Neighbours makes each node faster by factor while the others on its machine are quiet. They are busy for the given share of the time, and
// change their minds now and then.
func Neighbours(service string, factor, busy float64, mean time.Duration) Trouble {
	return each(service, nil, func(n *node, _ bool) {
		var change func()
		change = func() {
			if n.slow = 1 / factor; n.lab.Uniform() < busy {
				n.slow = 1
			}
			if n.lab.Elapsed() < n.lab.last {
				n.lab.After(n.lab.Exponential(mean), change)
			}
		}
		change()
	})
}

// Fail makes a share of the requests fail, when they have been worked on.
func Fail(service string, share float64, nodes ...int) Trouble {
	return each(service, nodes, func(n *node, on bool) {
		if n.failing = 0; on {
			n.failing = share
		}
	})
}

// Stop makes nodes stand still, as SIGSTOP does: they take everything and do nothing.
func Stop(service string, nodes ...int) Trouble {
	return each(service, nodes, func(n *node, on bool) {
		if n.stopped = on; on {
			return
		}
		for _, do := range n.frozen {
			n.lab.After(0, do)
		}
		n.frozen = nil
	})
}

// Kill ends nodes, as SIGKILL does: the registry does not know yet.
func Kill(service string, nodes ...int) Trouble {
	return each(service, nodes, func(n *node, on bool) {
		if on {
			n.kill()
			return
		}
		n.again()
	})
}

// Mute loses all that nodes answer: one way of the network is cut, silently.
func Mute(service string, nodes ...int) Trouble {
	return each(service, nodes, func(n *node, on bool) { n.mute = on })
}

// Restart restarts the nodes one after the other, one in every.
func Restart(service string, every time.Duration) Trouble {
	return each(service, nil, func(n *node, _ bool) {
		n.lab.After(time.Duration(n.index)*every, n.restart)
	})
}

// Forget makes a cache lose its keys.
func Forget(service string) Trouble {
	return func(l *Lab, _ bool) { clear(l.byName[service].hits) }
}

// Silence is a registry that does not answer. Callers that do not keep what they know forget it when 30 s have passed.
func Silence(l *Lab, on bool) {
	l.silent = on
	if !on {
		for _, s := range l.services {
			l.tell(s, s.known())
		}
		return
	}
	if l.with.stale {
		return
	}
	l.After(30*time.Second, func() {
		if l.silent {
			for _, s := range l.services {
				for _, t := range s.targets {
					t.forget(l)
				}
			}
		}
	})
}

// Emptied is a registry that says that there is nobody. Callers that doubt it keep the nodes, as absent ones, as long as those answer.
func Emptied(l *Lab, on bool) {
	for _, s := range l.services {
		if on {
			l.tell(s, nil)
			continue
		}
		l.tell(s, s.known())
	}
}

// downtime is how long a process takes to start again.
const downtime = time.Second

// restart ends the node's process and starts it again: with its requests, or after them.
func (n *node) restart() {
	l := n.lab
	if !l.with.drain {
		n.kill()
		l.After(downtime, n.again)
		return
	}
	n.draining = true
	l.announce(n.service)
	l.After(time.Second, func() {
		n.announced = false
		l.announce(n.service)
		n.leaving = true
		n.finish(20 * time.Second)
	})
}

// finish ends the process when nothing is under way any more, or the time is up.
func (n *node) finish(left time.Duration) {
	const look = 10 * time.Millisecond
	if len(n.jobs) > 0 && left > 0 {
		n.lab.After(look, func() { n.finish(left - look) })
		return
	}
	n.kill()
	n.lab.After(downtime, n.again)
}

// again starts the node's process.
func (n *node) again() {
	if err := n.start(); err != nil {
		panic(err) // it could be started before
	}
	n.lab.announce(n.service)
}
