package httptransport

// Failed is for fuzzing.
var Failed = failed
