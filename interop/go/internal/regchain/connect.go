package regchain

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"google.golang.org/grpc"

	"interop/internal/dial"
	"interop/internal/fdconn"
	"interop/internal/gen/registry"
	"net/url"
)

// Dial connects anew for each call, as the Go implementation does. The connection of a
// registration is kept until the next one.
type Dial[E Entry] struct {
	// To is where; known from the start.
	To      *url.URL
	Options dial.Options
}

type connKey struct{}

type kept struct{ conn *grpc.ClientConn }

func (k *kept) replace(conn *grpc.ClientConn) {
	if k.conn != nil {
		_ = k.conn.Close()
	}
	k.conn = conn
}

func (d *Dial[E]) dial(ctx context.Context) (context.Context, *grpc.ClientConn, error) {
	conn, err := d.Options.Dial(ctx, d.To)
	if err != nil {
		return nil, nil, err
	}
	ctx, _ = fdconn.WithCall(context.WithValue(ctx, connKey{}, conn))
	return ctx, conn, nil
}

// Register dials, and keeps the connection.
func (d *Dial[E]) Register(ctx context.Context, entry E, next Handler[E]) (E, error) {
	dialled, conn, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	if LifeOf[E](ctx) == nil {
		defer func() { _ = conn.Close() }()
		return next.Register(dialled, entry)
	}
	before := State[kept, E](ctx, d)
	before.replace(conn)
	answer, err := next.Register(dialled, entry)
	if err != nil {
		before.replace(nil)
	}
	return answer, err
}

// Unregister dials, and lets go of every connection.
func (d *Dial[E]) Unregister(ctx context.Context, entry E, next Handler[E]) error {
	defer State[kept, E](ctx, d).replace(nil)
	dialled, conn, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return next.Unregister(dialled, entry)
}

// Find dials for as long as it takes.
func (d *Dial[E]) Find(ctx context.Context, query Query[E], send func(Found[E]) error, next Handler[E]) error {
	dialled, conn, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return next.Find(dialled, query, send)
}

var errNotDialled = errors.New("connect: nothing has been dialled")

// ConnectServices makes the calls of services, on what [Dial] has dialled.
type ConnectServices struct{}

func servicesOf(ctx context.Context) (registry.NetworkServiceRegistryClient, error) {
	conn, ok := ctx.Value(connKey{}).(*grpc.ClientConn)
	if !ok {
		return nil, errNotDialled
	}
	return registry.NewNetworkServiceRegistryClient(conn), nil
}

// Register makes the call.
func (ConnectServices) Register(ctx context.Context, entry Service, _ Handler[Service]) (Service, error) {
	client, err := servicesOf(ctx)
	if err != nil {
		return nil, err
	}
	return client.Register(ctx, entry, caught(ctx)...)
}

// Unregister makes the call.
func (ConnectServices) Unregister(ctx context.Context, entry Service, _ Handler[Service]) error {
	client, err := servicesOf(ctx)
	if err != nil {
		return err
	}
	_, err = client.Unregister(ctx, entry, caught(ctx)...)
	return err
}

// Find makes the call, and sends what comes.
func (ConnectServices) Find(ctx context.Context, query Query[Service], send func(Found[Service]) error, _ Handler[Service]) error {
	client, err := servicesOf(ctx)
	if err != nil {
		return err
	}
	stream, err := client.Find(ctx, &registry.NetworkServiceQuery{NetworkService: query.Like, Watch: query.Watch})
	for err == nil {
		var response *registry.NetworkServiceResponse
		if response, err = stream.Recv(); err == nil {
			err = send(Found[Service]{response.NetworkService, response.Deleted})
		}
	}
	return orEnd(err)
}

// ConnectEndpoints makes the calls of endpoints, on what [Dial] has dialled.
type ConnectEndpoints struct{}

func endpointsOf(ctx context.Context) (registry.NetworkServiceEndpointRegistryClient, error) {
	conn, ok := ctx.Value(connKey{}).(*grpc.ClientConn)
	if !ok {
		return nil, errNotDialled
	}
	return registry.NewNetworkServiceEndpointRegistryClient(conn), nil
}

// Register makes the call.
func (ConnectEndpoints) Register(ctx context.Context, entry Endpoint, _ Handler[Endpoint]) (Endpoint, error) {
	client, err := endpointsOf(ctx)
	if err != nil {
		return nil, err
	}
	return client.Register(ctx, entry, caught(ctx)...)
}

// Unregister makes the call.
func (ConnectEndpoints) Unregister(ctx context.Context, entry Endpoint, _ Handler[Endpoint]) error {
	client, err := endpointsOf(ctx)
	if err != nil {
		return err
	}
	_, err = client.Unregister(ctx, entry, caught(ctx)...)
	return err
}

// Find makes the call, and sends what comes.
func (ConnectEndpoints) Find(ctx context.Context, query Query[Endpoint], send func(Found[Endpoint]) error, _ Handler[Endpoint]) error {
	client, err := endpointsOf(ctx)
	if err != nil {
		return err
	}
	stream, err := client.Find(ctx, &registry.NetworkServiceEndpointQuery{NetworkServiceEndpoint: query.Like, Watch: query.Watch})
	for err == nil {
		var response *registry.NetworkServiceEndpointResponse
		if response, err = stream.Recv(); err == nil {
			err = send(Found[Endpoint]{response.NetworkServiceEndpoint, response.Deleted})
		}
	}
	return orEnd(err)
}

func orEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	slog.Debug("find ended", "err", err)
	return err
}
