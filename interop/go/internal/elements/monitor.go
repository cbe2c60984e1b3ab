package elements

import (
	"context"
	"log/slog"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/path"
)

// maxUnread is how many events may wait for one watcher; one that reads slower is cut off.
const maxUnread = 1024

// Monitor tells watchers what becomes of connections. It is the element and the service.
type Monitor struct {
	connection.UnimplementedMonitorConnectionServer
	Root context.Context

	mutex       sync.Mutex
	connections map[string]*connection.Connection
	watchers    map[*watcher]bool
}

type watcher struct {
	selector *connection.MonitorScopeSelector
	events   chan *connection.ConnectionEvent
}

// NewMonitor makes one that lives as long as the context.
func NewMonitor(root context.Context) *Monitor {
	return &Monitor{
		Root:        root,
		connections: map[string]*connection.Connection{},
		watchers:    map[*watcher]bool{},
	}
}

// MonitorConnections sends first what there is, also if that is nothing, and then what changes.
func (m *Monitor) MonitorConnections(selector *connection.MonitorScopeSelector, stream grpc.ServerStreamingServer[connection.ConnectionEvent]) error {
	watching := m.watch(selector)
	defer m.leave(watching)
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case <-m.Root.Done():
			return nil
		case event, more := <-watching.events:
			if !more {
				return nil
			}
			if err := stream.Send(event); err != nil {
				return err
			}
		}
	}
}

func (m *Monitor) watch(selector *connection.MonitorScopeSelector) *watcher {
	watching := &watcher{selector, make(chan *connection.ConnectionEvent, maxUnread)}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.watchers[watching] = true
	watching.events <- &connection.ConnectionEvent{
		Type:        connection.ConnectionEventType_INITIAL_STATE_TRANSFER,
		Connections: path.Select(m.connections, selector),
	}
	return watching
}

func (m *Monitor) leave(watching *watcher) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	delete(m.watchers, watching)
}

// Send tells watchers, and remembers.
func (m *Monitor) Send(kind connection.ConnectionEventType, conn *connection.Connection) {
	conn = proto.CloneOf(conn)
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if kind == connection.ConnectionEventType_DELETE {
		delete(m.connections, conn.GetId())
	} else {
		m.connections[conn.GetId()] = conn
	}
	for watching := range m.watchers {
		if !path.Selected(conn, watching.selector) {
			continue
		}
		event := &connection.ConnectionEvent{Type: kind, Connections: map[string]*connection.Connection{conn.GetId(): conn}}
		select {
		case watching.events <- event:
		default:
			delete(m.watchers, watching)
			close(watching.events)
		}
	}
}

// AskRefresh asks whoever watches to request its connection again.
func (m *Monitor) AskRefresh() {
	m.mutex.Lock()
	all := make([]*connection.Connection, 0, len(m.connections))
	for _, conn := range m.connections {
		all = append(all, proto.CloneOf(conn))
	}
	m.mutex.Unlock()
	for _, conn := range all {
		conn.State = connection.State_REFRESH_REQUESTED
		m.Send(connection.ConnectionEventType_UPDATE, conn)
	}
}

// following is the goroutine that passes on what the next hop says of one connection.
type following struct{ cancel context.CancelFunc }

// Request tells of the answer, and of a refresh that failed; where this process has gone on to a
// next hop, it passes on what that says.
func (m *Monitor) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	follow := chain.State[following](ctx, m)
	followed := follow.cancel != nil
	if followed {
		follow.cancel()
		follow.cancel = nil
	}
	asked := proto.CloneOf(request.Connection)
	conn, err := next.Request(ctx, request)
	if err != nil {
		if followed {
			asked.State = connection.State_DOWN
			m.Send(connection.ConnectionEventType_UPDATE, asked)
		}
		return nil, err
	}
	m.Send(connection.ConnectionEventType_UPDATE, conn)
	if to := ConnOf(ctx); to != nil {
		var within context.Context
		within, follow.cancel = context.WithCancel(m.Root)
		go m.follow(within, to, proto.CloneOf(conn))
	}
	return conn, nil
}

// Close tells that the connection is gone.
func (m *Monitor) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	if follow := chain.State[following](ctx, m); follow.cancel != nil {
		follow.cancel()
		follow.cancel = nil
	}
	err := next.Close(ctx, conn)
	m.Send(connection.ConnectionEventType_DELETE, conn)
	return err
}

func (m *Monitor) follow(ctx context.Context, to grpc.ClientConnInterface, conn *connection.Connection) {
	watch := Watch(ctx, to, conn)
	watch.Quiet = true
	for {
		changed, err := watch.Next()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			slog.Info("the next hop is not to be heard", "id", conn.GetId(), "err", err)
			conn.State = connection.State_DOWN
			m.Send(connection.ConnectionEventType_UPDATE, conn)
			return
		}
		m.Send(connection.ConnectionEventType_UPDATE, changed)
		conn = changed
	}
}
