package corners

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"interop/internal/fdconn"
	"interop/internal/gen/connection"
	"interop/internal/gen/connectioncontext"
	"interop/internal/mechanism"
)

// served is what a manager serves, by gRPC's names: what probes ask for.
var served = []string{
	"", "networkservice.NetworkService", "connection.MonitorConnection",
	"registry.NetworkServiceRegistry", "registry.NetworkServiceEndpointRegistry",
}

func health(ctx context.Context, a *asker) error {
	checks := grpc_health_v1.NewHealthClient(a.conn)
	for _, name := range served {
		answer, err := checks.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: name})
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		if err := want(name, grpc_health_v1.HealthCheckResponse_SERVING, answer.GetStatus()); err != nil {
			return err
		}
	}
	_, err := checks.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "networkservice.Other"})
	return want("a service that there is not", codes.NotFound, status.Code(err))
}

// early sends the descriptor with another call, before the request.
func early(ctx context.Context, a *asker) error {
	inode, err := a.beside(ctx)
	if err != nil {
		return err
	}
	request := a.fresh()
	in(request, inode)
	conn, err := a.requests().Request(ctx, request)
	if err != nil {
		return err
	}
	_, err = a.requests().Close(ctx, conn)
	return err
}

// late sends the descriptor with another call, when the request is waiting for it. A connection
// of its own: the other one's has the namespace already.
func late(ctx context.Context, a *asker) error {
	other := *a
	var err error
	if other.conn, err = a.dial(life); err != nil {
		return err
	}
	defer func() { _ = other.conn.Close() }()
	file, inode, err := fdconn.Open(namespace)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	request := other.fresh()
	in(request, inode)
	type answer struct {
		conn *connection.Connection
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		conn, err := other.requests().Request(ctx, request)
		answers <- answer{conn, err}
	}()
	select {
	case got := <-answers:
		return fmt.Errorf("answered before the descriptor: %w", errors.Join(got.err, errors.New("nothing waited")))
	case <-time.After(300 * time.Millisecond):
	}
	if _, err := other.beside(ctx); err != nil {
		return err
	}
	got := <-answers
	if got.err != nil {
		return got.err
	}
	_, err = other.requests().Close(ctx, got.conn)
	return err
}

func ordered(ctx context.Context, a *asker) error {
	rows := []struct {
		preferences []*connection.Mechanism
		name        string
	}{
		{[]*connection.Mechanism{kernel("first"), kernel("second")}, "first"},
		{[]*connection.Mechanism{nobodys(), kernel("second")}, "second"},
	}
	for _, row := range rows {
		request := a.fresh()
		request.MechanismPreferences = row.preferences
		conn, err := a.send(ctx, request)
		if err != nil {
			return err
		}
		chosen := conn.GetMechanism()
		_, err = a.requests().Close(ctx, conn)
		if err := errors.Join(err, want("type", mechanism.Kernel, chosen.GetType()), want("name", row.name, chosen.GetParameters()[mechanism.Name])); err != nil {
			return err
		}
	}
	return nil
}

// nobodys is a mechanism that nobody makes.
func nobodys() *connection.Mechanism {
	return &connection.Mechanism{Cls: mechanism.Local, Type: "PIGEON", Parameters: map[string]string{}}
}

func labelled(ctx context.Context, a *asker) error {
	return a.connected(ctx, func(conn *connection.Connection) error {
		return want("nodeName", a.node, conn.GetLabels()["nodeName"])
	})
}

// strange is a field that no version has.
const strange = protowire.Number(18999)

func unknown(ctx context.Context, a *asker) error {
	request := a.fresh()
	conn := request.Connection
	conn.Context = &connectioncontext.ConnectionContext{
		IpContext:  &connectioncontext.IPContext{},
		DnsContext: &connectioncontext.DNSContext{},
	}
	mark := protowire.AppendString(protowire.AppendTag(nil, strange, protowire.BytesType), "kept")
	conn.ProtoReflect().SetUnknown(mark)
	conn.Context.ProtoReflect().SetUnknown(mark)
	conn.Context.IpContext.ProtoReflect().SetUnknown(mark)
	conn.Context.DnsContext.ProtoReflect().SetUnknown(mark)
	conn.Path.ProtoReflect().SetUnknown(mark)
	conn.Path.PathSegments[0].ProtoReflect().SetUnknown(mark)
	conn, err := a.send(ctx, request)
	if err != nil {
		return err
	}
	_, err = a.requests().Close(ctx, conn)
	kept := func(what string, unknown []byte) error { return want(what, mark, unknown) }
	return errors.Join(err,
		kept("connection", conn.ProtoReflect().GetUnknown()),
		kept("context", conn.GetContext().ProtoReflect().GetUnknown()),
		kept("IP context", conn.GetContext().GetIpContext().ProtoReflect().GetUnknown()),
		kept("DNS context", conn.GetContext().GetDnsContext().ProtoReflect().GetUnknown()),
		kept("path", conn.GetPath().ProtoReflect().GetUnknown()),
		kept("segment", conn.GetPath().GetPathSegments()[0].ProtoReflect().GetUnknown()),
	)
}

func megabyte(ctx context.Context, a *asker) error {
	request := a.fresh()
	big := strings.Repeat("x", 1<<20)
	request.Connection.Context = &connectioncontext.ConnectionContext{ExtraContext: map[string]string{"big": big}}
	conn, err := a.send(ctx, request)
	if err != nil {
		return err
	}
	_, err = a.requests().Close(ctx, conn)
	return errors.Join(err, want("bytes", len(big), len(conn.GetContext().GetExtraContext()["big"])))
}

// streams is how many monitors and calls are open at once: what a manager of the field has with
// its forwarder for as many connections.
const streams = 100

func manyStreams(ctx context.Context, a *asker) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	failed := make(chan error, 2*streams)
	for range streams {
		watch, err := a.watch(ctx, &connection.PathSegment{Id: "nobody's"})
		if err != nil {
			return err
		}
		group.Go(func() { _, err := watch.Recv(); failed <- err })
		group.Go(func() { failed <- closedUnknown(ctx, a) })
	}
	group.Wait()
	close(failed)
	var all []error
	for err := range failed {
		all = append(all, err)
	}
	return errors.Join(all...)
}
