package main

import (
	"github.com/hull-go/hull/internal/cli"
	"github.com/hull-go/hull/registry/fileregistry"
	"github.com/hull-go/hull/registry/staticregistry"
)

// drivers are the kinds of registry that this program is linked with, the default first.
func drivers() []cli.Driver {
	return []cli.Driver{
		{
			Scheme:     "file",
			Form:       "file:///DIRECTORY",
			Usage:      "the programs of one machine, through a directory; file:// alone is the user's own",
			Parameters: fileregistry.Parameters(),
			Open:       fileregistry.FromURL,
		},
		{
			Scheme:     "static",
			Form:       "static://HOST:PORT,…?service=NAME",
			Usage:      "a fixed list of addresses",
			Parameters: staticregistry.Parameters(),
			Open:       staticregistry.FromURL,
		},
	}
}
