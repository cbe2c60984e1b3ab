package forwarder

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/elements"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/mechanism"
)

// MechanismTranslation keeps the mechanisms of the two sides apart: the next hop never sees the
// caller's, the caller never the next hop's.
type MechanismTranslation struct{}

// beyond is the mechanism towards the next hop.
type beyond struct{ mechanism *connection.Mechanism }

// Request swaps them on the way there and back.
func (m *MechanismTranslation) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	state := chain.State[beyond](ctx, m)
	asked := proto.CloneOf(request)
	asked.MechanismPreferences = nil
	asked.Connection.Mechanism = proto.CloneOf(state.mechanism)
	conn, err := next.Request(ctx, asked)
	if err != nil {
		return nil, err
	}
	state.mechanism = proto.CloneOf(conn.GetMechanism())
	conn.Mechanism = request.Connection.GetMechanism()
	return conn, nil
}

// Close swaps them.
func (m *MechanismTranslation) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	state := chain.State[beyond](ctx, m)
	closing := proto.CloneOf(conn)
	closing.Mechanism, state.mechanism = state.mechanism, nil
	return next.Close(ctx, closing)
}

// Offer adds preferences of one type.
type Offer struct {
	elements.Null
	// Make is the preference for a connection, nil where it is not offered.
	Make func(conn *connection.Connection) *connection.Mechanism
}

// Request adds it.
func (o *Offer) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	if preference := o.Make(request.GetConnection()); preference != nil {
		request.MechanismPreferences = append(request.MechanismPreferences, preference)
	}
	return next.Request(ctx, request)
}

// local is a preference on one node.
func local(kind string) *Offer {
	return &Offer{Make: func(*connection.Connection) *connection.Mechanism {
		return &connection.Mechanism{Cls: mechanism.Local, Type: kind, Parameters: map[string]string{}}
	}}
}

// FilterMechanisms leaves the preferences that reach the next hop: local ones over a unix socket,
// remote ones over the network.
type FilterMechanisms struct{ elements.Null }

// Request leaves those.
func (f *FilterMechanisms) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	class := mechanism.Remote
	if to := chain.URLOf(ctx); to != nil && (to.Scheme == "unix" || to.Scheme == "inode") {
		class = mechanism.Local
	}
	var left []*connection.Mechanism
	for _, preference := range request.GetMechanismPreferences() {
		if strings.EqualFold(preference.GetCls(), class) {
			left = append(left, preference)
		}
	}
	request.MechanismPreferences = left
	return next.Request(ctx, request)
}
