// Package check plays the demo's story without anybody watching: it does to the nodes what the page's buttons do, through
// the same HTTP API, reads the same numbers, and says whether what Hull promises was kept, and whether the unprotected
// client shows the damage that there is to see.
//
// At the end it looks into the message file itself: nothing that was acknowledged may be missing, and nothing that is not
// idempotent may be there twice.
package check
