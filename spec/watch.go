package spec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

// WatchOptions says how a file is watched. Every zero means the default that stands beside it.
type WatchOptions struct {
	// Every is how often the file is read: 1 s. A change is in force after one to two of it.
	Every time.Duration
	// Logger gets one line for each document that is put in force, and one for each new reason why none is; nil = nobody.
	Logger *slog.Logger
	// Notify is told the same: nil when a document is in force, else why the old one stays. It is called on the goroutine of
	// Watch, with no lock held; nil = nobody.
	Notify func(error)
}

// Watch keeps the document in a file in force until ctx ends, and then returns nil. It gives the file's first document to apply,
// and then each other one. apply is Book.Apply, a client's Apply, or a function that calls it; it puts a document in force whole or
// returns an error and changes nothing. One that tries documents on probation, such as a client's Try, takes its time, in which the file is not
// looked at, and a document that it took back is not tried again.
//
// Whatever happens to the file, the last document that was good stays in force: while the file is missing or empty,
// cannot be read, or holds a document with faults. The reason is told once, and the file is looked at again until it is
// good. A file is taken when it was the same in two readings one after the other, so that one that is being written is
// not taken half-way. It is read, not subscribed to: that works on every file system and with every way in which files are
// replaced, and reading a small file once a second costs nothing.
func Watch(ctx context.Context, path string, apply func(*Spec) error, o WatchOptions) error {
	if apply == nil {
		return errors.New("spec: watch: apply is nil: say what to do with a document, such as Book.Apply")
	}
	if o.Every < 0 {
		return fmt.Errorf("spec: watch: option Every is %v: want a positive time, or 0 for 1s", o.Every)
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	w := watcher{path: path, apply: apply, opt: o}
	w.look(true)
	t := time.NewTicker(o.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			w.look(false)
		}
	}
}

type watcher struct {
	path  string
	apply func(*Spec) error
	opt   WatchOptions

	seen    []byte // the latest reading
	tried   []byte // the latest that was judged
	judged  bool
	trouble string // what was told last
}

// look reads the file, and takes it if it is new and has settled. The first reading is taken as it is, if it is good: programs
// are not started while their files are being written.
func (w *watcher) look(first bool) {
	doc, err := readDocument(w.path)
	if err != nil {
		w.seen, w.judged = nil, false // when it is back it is judged anew
		w.tell(nil, err)
		return
	}
	settled := w.seen != nil && bytes.Equal(doc, w.seen)
	w.seen = doc
	if w.judged && bytes.Equal(doc, w.tried) || !settled && !first {
		return
	}
	s, err := Parse(filepath.Base(w.path), doc)
	if err != nil && first {
		return // perhaps it was being written after all
	}
	w.tried, w.judged = doc, true
	if err == nil {
		err = w.apply(s)
		w.judged = err == nil || errors.Is(err, ErrTakenBack) // why it was refused may pass, how it did does not
	}
	w.tell(s, err)
}

// tell says what became of a document, unless it was the last thing that was said.
func (w *watcher) tell(s *Spec, err error) {
	if err == nil {
		w.trouble = ""
		if w.opt.Logger != nil {
			w.opt.Logger.Info("specification in force", "file", w.path, "services", len(s.Services))
		}
	} else {
		if err.Error() == w.trouble {
			return
		}
		w.trouble = err.Error()
		if w.opt.Logger != nil {
			w.opt.Logger.Error("specification not applied, the last good one stays in force", "file", w.path, "error", err)
		}
	}
	if w.opt.Notify != nil {
		w.opt.Notify(err)
	}
}
