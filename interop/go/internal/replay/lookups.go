package replay

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"interop/internal/gen/connection"
	genregistry "interop/internal/gen/registry"
	"interop/internal/path"
	"interop/internal/regchain"
	"interop/internal/registry"
)

// lookups answers what only looks, from what the recording shows that there was: how often a
// program looks, and whether it keeps what it saw, is its own affair.
type lookups struct {
	services  regchain.Handler[regchain.Service]
	endpoints regchain.Handler[regchain.Endpoint]

	mu          sync.Mutex
	connections map[string]*connection.Connection
	watchers    map[chan *connection.ConnectionEvent]*connection.MonitorScopeSelector
}

// maxEvents is how many events wait for a watcher: a recording has some hundreds.
const maxEvents = 1000

func newLookups() *lookups {
	return &lookups{
		services:    regchain.New(&registry.Memory[regchain.Service]{Match: registry.MatchService}),
		endpoints:   regchain.New(&registry.Memory[regchain.Endpoint]{Match: registry.MatchEndpoint}),
		connections: map[string]*connection.Connection{},
		watchers:    map[chan *connection.ConnectionEvent]*connection.MonitorScopeSelector{},
	}
}

// looks tells whether a method only looks.
func looks(path string) bool {
	return strings.HasSuffix(path, "/Find") || strings.HasSuffix(path, "/MonitorConnections")
}

// answer answers a call that only looks.
func (l *lookups) answer(path string, stream grpc.ServerStream) (bool, error) {
	switch path {
	case "/registry.NetworkServiceRegistry/Find":
		var query genregistry.NetworkServiceQuery
		if err := stream.RecvMsg(&query); err != nil {
			return true, err
		}
		asked := regchain.Query[regchain.Service]{Like: query.GetNetworkService(), Watch: query.GetWatch()}
		return true, l.services.Find(stream.Context(), asked, func(found regchain.Found[regchain.Service]) error {
			return stream.SendMsg(&genregistry.NetworkServiceResponse{NetworkService: found.Entry, Deleted: found.Deleted})
		})
	case "/registry.NetworkServiceEndpointRegistry/Find":
		var query genregistry.NetworkServiceEndpointQuery
		if err := stream.RecvMsg(&query); err != nil {
			return true, err
		}
		asked := regchain.Query[regchain.Endpoint]{Like: query.GetNetworkServiceEndpoint(), Watch: query.GetWatch()}
		return true, l.endpoints.Find(stream.Context(), asked, func(found regchain.Found[regchain.Endpoint]) error {
			return stream.SendMsg(&genregistry.NetworkServiceEndpointResponse{NetworkServiceEndpoint: found.Entry, Deleted: found.Deleted})
		})
	case "/connection.MonitorConnection/MonitorConnections":
		var selector connection.MonitorScopeSelector
		if err := stream.RecvMsg(&selector); err != nil {
			return true, err
		}
		return true, l.monitor(&selector, stream)
	default:
		return false, nil
	}
}

func (l *lookups) monitor(selector *connection.MonitorScopeSelector, stream grpc.ServerStream) error {
	events := make(chan *connection.ConnectionEvent, maxEvents)
	l.mu.Lock()
	events <- &connection.ConnectionEvent{
		Type:        connection.ConnectionEventType_INITIAL_STATE_TRANSFER,
		Connections: path.Select(l.connections, selector),
	}
	l.watchers[events] = selector
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watchers, events)
	}()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case event := <-events:
			if err := stream.SendMsg(event); err != nil {
				return err
			}
		}
	}
}

// learn takes over what a recorded answer shows.
func (l *lookups) learn(message proto.Message) {
	// Nothing can fail: there is only a store behind.
	ctx := context.Background()
	switch message := message.(type) {
	case *genregistry.NetworkServiceResponse:
		if message.GetDeleted() {
			_ = l.services.Unregister(ctx, message.GetNetworkService())
		} else {
			_, _ = l.services.Register(ctx, message.GetNetworkService())
		}
	case *genregistry.NetworkServiceEndpointResponse:
		if message.GetDeleted() {
			_ = l.endpoints.Unregister(ctx, message.GetNetworkServiceEndpoint())
		} else {
			_, _ = l.endpoints.Register(ctx, message.GetNetworkServiceEndpoint())
		}
	case *connection.ConnectionEvent:
		l.tell(message)
	}
}

// forget takes out the endpoints that a query should have found and did not.
func (l *lookups) forget(query *genregistry.NetworkServiceEndpointQuery, found map[string]bool) {
	ctx := context.Background()
	all, _ := regchain.List(ctx, l.endpoints, query.GetNetworkServiceEndpoint())
	for _, endpoint := range all {
		if !found[endpoint.GetName()] {
			_ = l.endpoints.Unregister(ctx, endpoint)
		}
	}
}

func (l *lookups) tell(event *connection.ConnectionEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, conn := range event.GetConnections() {
		if event.GetType() == connection.ConnectionEventType_DELETE {
			delete(l.connections, id)
		} else {
			l.connections[id] = conn
		}
	}
	if event.GetType() == connection.ConnectionEventType_INITIAL_STATE_TRANSFER {
		return
	}
	for watcher, selector := range l.watchers {
		for id, conn := range event.GetConnections() {
			if !path.Selected(conn, selector) {
				continue
			}
			one := &connection.ConnectionEvent{Type: event.GetType(), Connections: map[string]*connection.Connection{id: conn}}
			select {
			case watcher <- one:
			default:
			}
		}
	}
}
