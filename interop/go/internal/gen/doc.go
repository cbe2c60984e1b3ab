// Package gen holds the bindings of the wire messages, generated from the repository's proto/
// folder: a package each for connectioncontext, connection, networkservice, registry and ipam.
//
// Nothing in the folders below is written by hand. `go generate ./internal/gen` writes them anew;
// a test of the generator's fails while they differ from what proto/ says.
package gen

//go:generate go run ./generator
