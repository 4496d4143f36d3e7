//go:build !linux

package main

import "os/exec"

// splitCPUs returns none: processes are not bound to CPUs here.
func splitCPUs() (client, server []int) { return nil, nil }

// startOn starts cmd; cpus are always none.
func startOn(cmd *exec.Cmd, _ []int) error { return cmd.Start() }
