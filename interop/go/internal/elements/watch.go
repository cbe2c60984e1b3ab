package elements

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"interop/internal/gen/connection"
	"interop/internal/path"
)

// Watching is a stream of what the next hop says of one connection.
type Watching struct {
	conn   *connection.Connection
	stream grpc.ServerStreamingClient[connection.ConnectionEvent]
	err    error
	ready  []*connection.Connection
	// Quiet leaves out what was there when the watch began, as long as its state is the same.
	Quiet bool
}

// Watch asks the next hop for news of a connection that stands at the own segment.
func Watch(ctx context.Context, to grpc.ClientConnInterface, conn *connection.Connection) *Watching {
	own := path.Current(conn)
	selector := &connection.MonitorScopeSelector{
		PathSegments: []*connection.PathSegment{{Id: own.GetId(), Name: own.GetName()}},
	}
	stream, err := connection.NewMonitorConnectionClient(to).MonitorConnections(ctx, selector)
	return &Watching{conn: proto.CloneOf(conn), stream: stream, err: err}
}

// Next waits for the connection as it has become: with what the next hop says of its path,
// context and state. One that was deleted is down.
func (w *Watching) Next() (*connection.Connection, error) {
	if w.err != nil {
		return nil, w.err
	}
	for len(w.ready) == 0 {
		event, err := w.stream.Recv()
		if err != nil {
			return nil, err
		}
		for _, told := range event.GetConnections() {
			w.take(event.GetType(), told)
		}
	}
	next := w.ready[0]
	w.ready = w.ready[1:]
	return next, nil
}

func (w *Watching) take(kind connection.ConnectionEventType, told *connection.Connection) {
	index := w.conn.GetPath().GetIndex()
	segments := told.GetPath().GetPathSegments()
	if len(segments) <= int(index) || segments[index].GetId() != w.conn.GetId() {
		return
	}
	if at := told.GetPath().GetIndex(); at != index && at != index+1 {
		return
	}
	if w.Quiet && kind == connection.ConnectionEventType_INITIAL_STATE_TRANSFER && told.GetState() == w.conn.GetState() {
		return
	}
	changed := proto.CloneOf(w.conn)
	changed.Path = proto.CloneOf(told.GetPath())
	changed.Path.Index = index
	changed.Context = proto.CloneOf(told.GetContext())
	changed.State = told.GetState()
	if kind == connection.ConnectionEventType_DELETE {
		changed.State = connection.State_DOWN
	}
	if proto.Equal(changed, w.conn) {
		return
	}
	w.conn = changed
	w.ready = append(w.ready, proto.CloneOf(changed))
}
