package httppolicy_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/breaker"
	"github.com/hull-go/hull/policy/concurrency"
	"github.com/hull-go/hull/policy/httppolicy"
	"github.com/hull-go/hull/policy/retry"
	"github.com/hull-go/hull/policy/timeout"
)

// An http.Client that gives each attempt its time, repeats what is safe to repeat, within a budget, and stops calling a server that
// is down.
func Example() {
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "hello")
	}))
	defer server.Close()

	retries, _ := retry.New(retry.Options{})
	budget, _ := retry.NewBudget(retry.BudgetOptions{})
	timeouts, _ := timeout.New(timeout.Options{})
	brk, _ := breaker.New(breaker.Options{})
	p, err := policy.New(policy.Options{
		Key: "hello", Retries: retries, Budget: budget, Timeouts: timeouts, Breaker: policy.Slot{Name: "breaker", Gate: brk},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: httppolicy.NewTransport(nil, p, httppolicy.Options{}), Timeout: 5 * time.Second}

	rep, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rep.Body.Close()
	b, _ := io.ReadAll(rep.Body)
	fmt.Println(rep.StatusCode, string(b), "after", p.Snapshot().Attempts, "attempts")
	// Output: 200 hello after 2 attempts
}

// A server that works on one request at a time and lets nobody wait.
func ExampleNewHandler() {
	places, _ := concurrency.New(concurrency.Options{Limit: 1})
	p, err := policy.New(policy.Options{Key: "api", Concurrency: policy.Slot{Name: "places", Gate: places}})
	if err != nil {
		fmt.Println(err)
		return
	}
	var h http.Handler
	get := func(path string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Printf("%s %d %q\n", path, w.Code, w.Header().Get("Retry-After"))
	}
	h, err = httppolicy.NewHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			get("/second") // while the first is under way
		}
	}), p, httppolicy.HandlerOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	get("/first")
	get("/third")
	// Output:
	// /second 503 "1"
	// /first 200 ""
	// /third 200 ""
}

// A server that finds its capacity by itself, with a short line in front of it, where what matters less is shed first, and never
// works on what nobody waits for any more.
func ExampleHandlerOptions() {
	source, _ := concurrency.NewTwoArm(concurrency.TwoArmOptions{})
	limit, _ := concurrency.New(concurrency.Options{Source: source})
	p, err := policy.New(policy.Options{Key: "api", Concurrency: policy.Slot{Name: "limit", Gate: limit}})
	if err != nil {
		fmt.Println(err)
		return
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, limited := r.Context().Deadline()
		fmt.Fprint(w, "hello, with a deadline: ", limited)
	})
	h, err := httppolicy.NewHandler(hello, p, httppolicy.HandlerOptions{
		MaxTimeout: 10 * time.Second,
		Trusted:    func(r *http.Request) bool { return r.TLS != nil }, // others cannot say that they matter more
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, left := range []string{"250m", "0m"} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set(httppolicy.HeaderGRPC, left)
		r.Header.Set("Hull-Criticality", "sheddable")
		h.ServeHTTP(w, r)
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 200 hello, with a deadline: true
	// 504 Gateway Timeout
}

// A database query in a pipeline. Whether it may be repeated is for its author to say: this one only reads.
func Example_database() {
	db := sql.OpenDB(&flaky{failures: 1})
	defer db.Close()
	retries, _ := retry.New(retry.Options{})
	places, _ := concurrency.New(concurrency.Options{Limit: 20})
	p, err := policy.New(policy.Options{
		Key: "db", Retries: retries, Concurrency: policy.Slot{Name: "places", Gate: places},
		Classify: func(err error) policy.Class {
			switch {
			case errors.Is(err, sql.ErrNoRows):
				return policy.ClassCaller // an answer
			case errors.Is(err, errRestarting):
				return policy.ClassUnavailable
			}
			return policy.Classify(err)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	name, err := policy.Do(context.Background(), p, func(ctx context.Context) (name string, err error) {
		err = db.QueryRowContext(ctx, "SELECT name FROM people WHERE id = 7").Scan(&name)
		return name, err
	}, policy.Call{Idempotent: true})
	fmt.Println(name, err, p.Snapshot().Attempts)
	// Output: Grace <nil> 2
}

// Any function in a pipeline.
func Example_function() {
	brk, _ := breaker.New(breaker.Options{})
	p, err := policy.New(policy.Options{Key: "weather", Breaker: policy.Slot{Name: "breaker", Gate: brk}})
	if err != nil {
		fmt.Println(err)
		return
	}
	brk.ForceOpen(policy.Now())
	v, err := policy.DoElse(context.Background(), p,
		func(context.Context) (string, error) { return "sunny", nil },
		func(_ context.Context, err error) (string, error) {
			fmt.Println(err)
			return "as yesterday", nil
		})
	fmt.Println(v, err)
	// Output:
	// Unavailable (refused): refused by breaker of weather (forced-open): it was opened by hand
	// as yesterday <nil>
}

var errRestarting = errors.New("the database restarts")

// flaky is a database with one answer, which it does not give at first.
type flaky struct{ failures int }

func (f *flaky) Connect(context.Context) (driver.Conn, error) { return conn{f}, nil }
func (f *flaky) Driver() driver.Driver                        { return nil }

type conn struct{ f *flaky }

func (conn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }
func (conn) Close() error                        { return nil }
func (conn) Begin() (driver.Tx, error)           { return nil, errors.ErrUnsupported }

func (c conn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	if c.f.failures > 0 {
		c.f.failures--
		return nil, errRestarting
	}
	return &rows{}, nil
}

type rows struct{ read bool }

func (*rows) Columns() []string { return []string{"name"} }
func (*rows) Close() error      { return nil }

func (r *rows) Next(dest []driver.Value) error {
	if r.read {
		return io.EOF
	}
	r.read, dest[0] = true, "Grace"
	return nil
}
