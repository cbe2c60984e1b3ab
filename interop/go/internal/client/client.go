// Package client is the role that asks for network services, and keeps the connections.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/elements"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/mechanism"
	"interop/internal/policy"
	"interop/internal/start"
)

// settings is what the role reads beside the common.
type settings struct {
	connectTo      *url.URL
	dialTimeout    time.Duration
	requestTimeout time.Duration
	asks           []*mechanism.Ask
}

func read(role *start.Role) (*settings, error) {
	env := role.Env
	read := &settings{
		connectTo:      env.URL("NSM_CONNECT_TO", "unix:///var/lib/networkservicemesh/nsm.io.sock"),
		dialTimeout:    env.Duration("NSM_DIAL_TIMEOUT", 5*time.Second),
		requestTimeout: env.Duration("NSM_REQUEST_TIMEOUT", 15*time.Second),
	}
	for _, text := range env.List("NSM_NETWORK_SERVICES") {
		ask, err := mechanism.ParseAsk(text)
		if err != nil {
			return nil, fmt.Errorf("NSM_NETWORK_SERVICES: %w", err)
		}
		read.asks = append(read.asks, ask)
	}
	if len(read.asks) == 0 {
		return nil, errors.New("NSM_NETWORK_SERVICES names no network service")
	}
	return read, env.Err()
}

// Run connects to every service, and closes when the context ends.
func Run(ctx context.Context, _ []string) error {
	role, err := start.New(ctx, "nsc")
	if err != nil {
		return err
	}
	set, err := read(role)
	if err != nil {
		return err
	}
	// What keeps connections must not end before they are closed.
	root, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	handler := newChain(root, role, set)
	standing := earlier(ctx, role, set)
	var open []*connection.Connection
	for at, ask := range set.asks {
		request := construct(fmt.Sprintf("%s-%d", role.Name, at), ask, standing)
		conn, err := connect(ctx, handler, request, set.requestTimeout)
		if err != nil {
			break
		}
		open = append(open, conn)
		slog.Info("successfully connected", elements.About(conn)...)
	}
	<-ctx.Done()
	return closeAll(root, handler, open, set.requestTimeout)
}

// newChain is the role.
func newChain(root context.Context, role *start.Role, set *settings) chain.Handler {
	return chain.New(
		// segment 0 of the path
		&elements.UpdatePath{Name: role.Name},
		// one event of a connection at a time
		chain.NewBeginClient(root),
		// again before a token expires
		&elements.Refresh{Root: root},
		// where the manager is
		&elements.ClientURL{To: set.connectTo},
		// another endpoint when this one is gone
		&elements.Heal{Root: root},
		// a connection for each request
		&elements.Dial{Options: role.Dial(set.dialTimeout)},
		// where this runs, as labels
		&elements.ClientInfo{},
		// again when somebody to the right wants it
		&elements.UpstreamRefresh{Root: root},
		// an interface in this namespace
		&elements.Mechanisms{Client: true, Of: map[string]chain.Element{mechanism.Kernel: &elements.KernelClient{}}},
		// whose descriptor goes with the call
		&elements.SendFDClient{},
		// no address twice
		&ExcludedPrefixes{},
		// what the answer's path must be like
		&elements.AuthorizeClient{Policies: policy.MustLoad(policy.Client...)},
		// the path goes on to the right
		&elements.KeepPath{},
		// the call
		&elements.Call{},
	)
}

// earlier is the connections that a client of this name had before, as the manager knows them;
// what it does not know within the time is not waited for.
func earlier(ctx context.Context, role *start.Role, set *settings) map[string]*connection.Connection {
	found := map[string]*connection.Connection{}
	ctx, cancel := context.WithTimeout(ctx, set.dialTimeout)
	defer cancel()
	to, err := role.Dial(set.dialTimeout).Dial(ctx, set.connectTo)
	if err != nil {
		slog.Warn("the manager is not to be heard", "err", err)
		return found
	}
	defer func() { _ = to.Close() }()
	for at := range set.asks {
		id := fmt.Sprintf("%s-%d", role.Name, at)
		stream, err := connection.NewMonitorConnectionClient(to).MonitorConnections(ctx, &connection.MonitorScopeSelector{
			PathSegments: []*connection.PathSegment{{Id: id}},
		})
		if err != nil {
			continue
		}
		event, err := stream.Recv()
		if err != nil {
			slog.Warn("no word of earlier connections", "id", id, "err", err)
			continue
		}
		for key, conn := range event.GetConnections() {
			found[key] = conn
		}
	}
	return found
}

// construct is the request: for a connection that stands already, with what is known of it.
func construct(id string, ask *mechanism.Ask, standing map[string]*connection.Connection) *networkservice.NetworkServiceRequest {
	request := &networkservice.NetworkServiceRequest{
		Connection: &connection.Connection{
			Id:             id,
			NetworkService: ask.Service,
			Labels:         ask.Labels,
		},
		MechanismPreferences: []*connection.Mechanism{ask.Mechanism},
	}
	for _, known := range standing {
		segments := known.GetPath().GetPathSegments()
		if known.GetPath().GetIndex() != 1 || segments[0].GetId() != id || known.GetMechanism().GetType() != ask.Mechanism.GetType() {
			continue
		}
		slog.Info("taken over", "id", id)
		request.Connection = proto.CloneOf(known)
		request.Connection.Path.Index, request.Connection.Id = 0, id
		if known.GetState() == connection.State_DOWN {
			request.Connection.Mechanism = nil
			request.Connection.NetworkServiceEndpointName = ""
			request.Connection.State = connection.State_RESELECT_REQUESTED
		}
	}
	return request
}

// connect asks until it gets an answer: without a pause, as the Go implementation's.
func connect(ctx context.Context, handler chain.Handler, request *networkservice.NetworkServiceRequest, timeout time.Duration) (*connection.Connection, error) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, timeout)
		conn, err := handler.Request(try, proto.CloneOf(request))
		cancel()
		if err == nil {
			return conn, nil
		}
		slog.Error("request failed", "id", request.Connection.Id, "err", err)
		// A peer that refuses at once must not be asked thousands of times a second by a test.
		select {
		case <-ctx.Done():
		case <-time.After(againAfter):
		}
	}
	return nil, ctx.Err()
}

// againAfter is the pause after a request that failed.
const againAfter = 100 * time.Millisecond

func closeAll(ctx context.Context, handler chain.Handler, open []*connection.Connection, timeout time.Duration) error {
	var failed error
	for _, conn := range open {
		within, cancel := context.WithTimeout(ctx, timeout)
		err := handler.Close(within, conn)
		cancel()
		if err != nil {
			slog.Error("close failed", "id", conn.GetId(), "err", err)
			failed = errors.Join(failed, err)
			continue
		}
		slog.Info("closed", "id", conn.GetId())
	}
	return failed
}
