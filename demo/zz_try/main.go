package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/hull-go/hull/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	switch os.Args[1] {
	case "demo-role":
		err = demo.RunRole(ctx, os.Args[2:], os.Stdin, os.Stdout, log)
	case "check":
		err = demo.Check(ctx, demo.CheckOptions{Options: demo.Options{Stdout: os.Stdout, Stderr: os.Stderr, Logger: log, TempDir: os.Getenv("HD_TMP"), Rate: 300}, JSON: len(os.Args) > 2})
	case "demo":
		err = demo.Run(ctx, demo.Options{Stdout: os.Stdout, Stderr: os.Stderr, Logger: log, TempDir: os.Getenv("HD_TMP"), Rate: 300})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
