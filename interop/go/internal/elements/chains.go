package elements

import (
	"context"

	"interop/internal/chain"
	"interop/internal/dial"
	"interop/internal/identity"
	"interop/internal/policy"
)

// ServerOptions is what every serving role has.
type ServerOptions struct {
	// Name of the hop.
	Name string
	// Generator of tokens.
	Generator identity.Generator
	// Policies on the path of what comes in.
	Policies policy.List
}

// NewServer is the chain of a serving role: what all have, then `more`.
func NewServer(root context.Context, options ServerOptions, more ...chain.Element) (chain.Handler, *Monitor) {
	monitor := NewMonitor(root)
	elements := []chain.Element{
		// which segment of the path is ours
		&UpdatePath{Name: options.Name},
		// one event of a connection at a time
		chain.NewBeginServer(root),
		// the caller's token and ours
		&UpdateToken{Generator: options.Generator},
		// may the caller
		&AuthorizeServer{Policies: options.Policies},
		// close when the caller's token runs out
		&Timeout{Root: root},
		// tell who watches
		monitor,
		// nothing is right of the last hop
		&TrimPath{},
	}
	return chain.New(append(elements, more...)...), monitor
}

// ClientOptions is what every asking role has.
type ClientOptions struct {
	// Name of the hop.
	Name string
	// Dial to the next hop.
	Dial dial.Options
}

// NewClient is the chain of a hop that hands on: no refresh, no heal; `more` stands before the
// call.
func NewClient(root context.Context, options ClientOptions, more ...chain.Element) chain.Handler {
	elements := []chain.Element{
		// the segment is the server's of the same name
		&UpdatePath{Name: options.Name},
		// the event is the server's
		chain.NewBeginClient(root),
		// a connection for each request
		&Dial{Options: options.Dial},
	}
	elements = append(elements, more...)
	return chain.New(append(elements,
		// the path goes on to the right
		&KeepPath{},
		// the call
		&Call{},
	)...)
}
