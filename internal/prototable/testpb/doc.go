// Package testpb holds the generated code of the messages that the tables of
// internal/prototable are tested with: one file for each syntax and API level.
// Edit the .proto files and run make generate.
package testpb
