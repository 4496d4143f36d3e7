// Hull looks at services, calls them, and runs the demo; see docs/cli.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/hull-go/hull/internal/cli"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // whoever interrupts a second time does not want to wait
	return cli.Run(ctx, os.Args[1:], cli.Options{Env: os.LookupEnv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Terminal: isTerminal(os.Stdout), Size: func() (int, int) { return sizeOf(os.Stdout) }, Drivers: drivers()})
}

// isTerminal reports whether f is a terminal that understands colours.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	_, modern := os.LookupEnv("WT_SESSION") // the old Windows console shows escape sequences as they are
	return runtime.GOOS != "windows" || modern
}
