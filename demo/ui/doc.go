// Package ui is the demo's second service: the page that people see, and the HTTP API behind it. It depends on the board
// service and calls it in two ways at once, under the same load: protected by Hull's policies, with switches to turn each
// one off, and unprotected, with a list of addresses and nothing else.
package ui
