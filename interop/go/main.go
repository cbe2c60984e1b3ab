// Command nsm-go is the roles of a mesh as the Go implementation's are on the wire, for tests of
// the Rust program against the libraries that the field runs on: control plane only, it makes no
// interface and carries no packet.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"interop/internal/client"
	"interop/internal/corners"
	"interop/internal/endpoint"
	"interop/internal/find"
	"interop/internal/forwarder"
	"interop/internal/hostile"
	"interop/internal/manager"
	"interop/internal/recording"
	"interop/internal/registry"
	"interop/internal/replay"
	"interop/internal/workloadapi"
)

// run is one subcommand: it returns when its context ends, or with what went wrong.
type run func(ctx context.Context, args []string) error

// commands is every subcommand by its name.
var commands = map[string]run{
	"client":       client.Run,
	"corners":      corners.Run,
	"endpoint":     endpoint.Run,
	"find":         find.Run,
	"forwarder":    forwarder.Run,
	"hostile":      hostile.Run,
	"manager":      manager.Run,
	"recording":    recording.Run,
	"registry":     registry.Run,
	"replay":       replay.Run,
	"workload-api": workloadapi.Run,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "usage: nsm-go %v\n", names())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := commands[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "nsm-go %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func names() []string {
	all := make([]string, 0, len(commands))
	for name := range commands {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
