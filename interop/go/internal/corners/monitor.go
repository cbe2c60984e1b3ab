package corners

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"interop/internal/gen/connection"
)

// stream is a monitor's.
type stream = grpc.ServerStreamingClient[connection.ConnectionEvent]

func (a *asker) watch(ctx context.Context, run ...*connection.PathSegment) (stream, error) {
	return a.monitors().MonitorConnections(ctx, &connection.MonitorScopeSelector{PathSegments: run})
}

func initialState(ctx context.Context, a *asker) error {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	watch, err := a.watch(ctx, &connection.PathSegment{Id: "nobody's"})
	if err != nil {
		return err
	}
	event, err := watch.Recv()
	if err != nil {
		return err
	}
	return errors.Join(
		want("event", connection.ConnectionEventType_INITIAL_STATE_TRANSFER, event.GetType()),
		want("connections", 0, len(event.GetConnections())),
	)
}

func events(ctx context.Context, a *asker) error {
	conn, err := a.send(ctx, a.fresh())
	if err != nil {
		return err
	}
	watch, err := a.watch(ctx, &connection.PathSegment{Id: conn.GetId()})
	if err != nil {
		return err
	}
	steps := []struct {
		run  func() error
		kind connection.ConnectionEventType
	}{
		{func() error { return nil }, connection.ConnectionEventType_INITIAL_STATE_TRANSFER},
		{func() error { _, err := a.send(ctx, again(proto.CloneOf(conn))); return err }, connection.ConnectionEventType_UPDATE},
		{func() error { _, err := a.requests().Close(ctx, conn); return err }, connection.ConnectionEventType_DELETE},
	}
	for _, step := range steps {
		if err := step.run(); err != nil {
			return err
		}
		if err := next(watch, step.kind); err != nil {
			return err
		}
	}
	return nil
}

// next waits for an event of this kind, which is of one connection; counters are updates that
// come at any time.
func next(watch stream, kind connection.ConnectionEventType) error {
	for {
		event, err := watch.Recv()
		if err != nil {
			return fmt.Errorf("no %s: %w", kind, err)
		}
		if event.GetType() == kind {
			return want(kind.String(), 1, len(event.GetConnections()))
		}
		if event.GetType() != connection.ConnectionEventType_UPDATE {
			return fmt.Errorf("want %s, have %s", kind, event.GetType())
		}
	}
}

func selectors(ctx context.Context, a *asker) error {
	return a.connected(ctx, func(conn *connection.Connection) error {
		own, manager, forwarder := conn.Path.PathSegments[0], conn.Path.PathSegments[1], conn.Path.PathSegments[2]
		any := &connection.PathSegment{}
		named := func(of *connection.PathSegment) *connection.PathSegment {
			return &connection.PathSegment{Name: of.GetName()}
		}
		rows := []struct {
			what     string
			selector *connection.MonitorScopeSelector
			seen     int
		}{
			{"the id alone", run(&connection.PathSegment{Id: own.GetId()}), 1},
			{"id and name", run(&connection.PathSegment{Id: own.GetId(), Name: own.GetName()}), 1},
			{"a run in the middle", run(&connection.PathSegment{Id: manager.GetId()}, named(forwarder)), 1},
			{"a wildcard between", run(&connection.PathSegment{Id: own.GetId()}, any, named(forwarder)), 1},
			{"no run: one left out", run(&connection.PathSegment{Id: own.GetId()}, named(forwarder)), 0},
			{"no run: turned round", run(named(manager), &connection.PathSegment{Id: own.GetId()}), 0},
			{"longer than the path", run(any, any, any, any, any, any, any), 0},
			{"another name", run(&connection.PathSegment{Id: own.GetId(), Name: "other"}), 0},
			{"the service", of(run(&connection.PathSegment{Id: own.GetId()}), "other", a.service), 1},
			{"another service", of(run(&connection.PathSegment{Id: own.GetId()}), "other"), 0},
		}
		for _, row := range rows {
			watch, err := a.monitors().MonitorConnections(ctx, row.selector)
			if err != nil {
				return err
			}
			event, err := watch.Recv()
			if err != nil {
				return fmt.Errorf("%s: %w", row.what, err)
			}
			if err := want(row.what, row.seen, len(event.GetConnections())); err != nil {
				return err
			}
		}
		return nil
	})
}

func run(segments ...*connection.PathSegment) *connection.MonitorScopeSelector {
	return &connection.MonitorScopeSelector{PathSegments: segments}
}

func of(selector *connection.MonitorScopeSelector, services ...string) *connection.MonitorScopeSelector {
	selector.NetworkServices = services
	return selector
}
