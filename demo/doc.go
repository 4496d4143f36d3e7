// Package demo is what "hull demo" runs: a board of messages with three nodes, a page that depends on it, a built-in load,
// and buttons that break things. Each part is a process of its own:
//
//	hull demo
//	├── backend-1 … backend-3   demo/backend: REST and RPC over one SQLite file (demo/store)
//	└── ui                      demo/ui: the page, its HTTP API, and the load of two clients
//
// The parent (demo/system, demo/supervise) starts the others, kills and freezes them on request, and leaves none behind.
// Faults that happen inside a node are in demo/faults. Check (demo/check) plays the whole story without anybody watching and
// says whether the promises were kept.
package demo
