package elements

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/mechanism"
	"interop/internal/path"
)

// The words of the Go implementation: peers' logs are searched for them.
var (
	errUnsupported   = errors.New("unsupported mechanism")
	errCannotSupport = errors.New("cannot support any of the requested mechanism")
)

// Mechanisms runs the element of the connection's mechanism. On the side of a server one that is
// not chosen yet is: the first preference with which the rest of the chain succeeds.
type Mechanisms struct {
	// Of each type.
	Of map[string]chain.Element
	// Client is whether this is a client's side.
	Client bool
}

// Request runs it.
func (m *Mechanisms) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	if chosen := request.GetConnection().GetMechanism(); chosen != nil {
		element, ok := m.Of[chosen.GetType()]
		if !ok {
			return nil, fmt.Errorf("%w: %s", errUnsupported, chosen.GetType())
		}
		m.measure(request.GetConnection(), chosen)
		return element.Request(ctx, request, next)
	}
	err := errCannotSupport
	for _, preference := range request.GetMechanismPreferences() {
		element, ok := m.Of[preference.GetType()]
		if !ok {
			continue
		}
		conn, failed := m.try(ctx, request, preference, element, next)
		if failed == nil {
			return conn, nil
		}
		err = fmt.Errorf("%w: %w", err, failed)
	}
	return nil, err
}

func (m *Mechanisms) try(ctx context.Context, request *networkservice.NetworkServiceRequest, preference *connection.Mechanism, element chain.Element, next chain.Handler) (*connection.Connection, error) {
	asked := proto.CloneOf(request)
	if m.Client {
		m.measure(asked.Connection, preference)
		return element.Request(ctx, asked, next)
	}
	asked.Connection.Mechanism = proto.CloneOf(preference)
	conn, err := element.Request(ctx, asked, next)
	if err == nil {
		m.measure(conn, conn.GetMechanism())
	}
	return conn, err
}

// Close runs it; a mechanism that nobody here knows is an error.
func (m *Mechanisms) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	element, ok := m.Of[conn.GetMechanism().GetType()]
	if !ok {
		return errors.Join(errCannotSupport, next.Close(ctx, conn))
	}
	return element.Close(ctx, conn, next)
}

// measure notes in the segment which interface it is.
func (m *Mechanisms) measure(conn *connection.Connection, mech *connection.Mechanism) {
	segment := path.Current(conn)
	if segment == nil {
		return
	}
	if segment.Metrics == nil {
		segment.Metrics = map[string]string{}
	}
	side := "server_interface"
	if m.Client {
		side = "client_interface"
	}
	segment.Metrics[side] = mech.GetType() + "/" + mech.GetParameters()[mechanism.Name]
}

// Null leaves everything as it is.
type Null struct{}

// Request hands on.
func (Null) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	return next.Request(ctx, request)
}

// Close hands on.
func (Null) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	return next.Close(ctx, conn)
}
