// Package cli is the hull program without its main function: one file per subcommand.
//
// # The mental model
//
// Run is a function of its arguments, its environment and its streams to an exit code, so that tests run the whole program
// in their own process. What the user can set stands in one table (settings.go): it makes the flags, their help, the names
// of the environment and the reference in docs/cli.md. A flag beats the environment, which beats the default.
//
// Answers go to standard output and nothing else does: what a command reads back with -o json is never mixed with notes.
// Errors and notes go to standard error. The exit code says of which kind an error is (exit.go).
//
// Registries are reached through the drivers that the program was linked with (Options.Drivers), each by its URL.
package cli
