package regchain

import (
	"context"
	"net/url"

	"interop/internal/dial"
	"interop/internal/policy"
)

// ClientOptions is how a role calls a registry.
type ClientOptions struct {
	// To is where it is.
	To *url.URL
	// Dial to it.
	Dial dial.Options
	// Policies on its answers; none if empty.
	Policies policy.List
	// WithoutHeal leaves out retrying, refreshing and watching: for who hands on what others
	// register.
	WithoutHeal bool
}

// NewServiceClient calls a registry about services.
func NewServiceClient(root context.Context, options ClientOptions) Handler[Service] {
	keeping := []Element[Service]{
		// one event of a name at a time
		NewBegin[Service](root),
	}
	if !options.WithoutHeal {
		keeping = append(keeping,
			// until it works
			&Retry[Service]{Root: root},
			// again when the registry went away
			&Heal[Service]{Root: root},
		)
	}
	return New(append(keeping,
		// what the answer's path must be like
		&AuthorizeClient[Service]{Policies: options.Policies},
		// the path goes with the call and comes back with the answer
		&GRPCMetadataClient[Service]{},
		// a connection for each call
		&Dial[Service]{To: options.To, Options: options.Dial},
		// the call
		ConnectServices{},
	)...)
}

// NewEndpointClient calls a registry about endpoints; `more` stands before the call.
func NewEndpointClient(root context.Context, options ClientOptions, more ...Element[Endpoint]) Handler[Endpoint] {
	elements := []Element[Endpoint]{
		// one event of a name at a time
		NewBegin[Endpoint](root),
	}
	if !options.WithoutHeal {
		elements = append(elements,
			// until it works
			&Retry[Endpoint]{Root: root},
			// again when the registry went away
			&Heal[Endpoint]{Root: root},
			// again before it expires
			&Refresh{Root: root},
		)
	}
	elements = append(elements,
		// what the answer's path must be like
		&AuthorizeClient[Endpoint]{Policies: options.Policies},
		// the path goes with the call and comes back with the answer
		&GRPCMetadataClient[Endpoint]{},
		// a connection for each call
		&Dial[Endpoint]{To: options.To, Options: options.Dial},
	)
	elements = append(elements, more...)
	// the call
	return New(append(elements, Element[Endpoint](ConnectEndpoints{}))...)
}
