package corners

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/gen/registry"
	"interop/internal/meta"
)

// begun is the context of a registration: with an empty path, as who begins one sends it.
func begun(ctx context.Context) (context.Context, error) {
	return meta.OutgoingPath(ctx, &meta.Path{})
}

// mine is an endpoint of the asker's.
func mine(service string) *registry.NetworkServiceEndpoint {
	return &registry.NetworkServiceEndpoint{
		Name: "asker-" + service, NetworkServiceNames: []string{service}, Url: "tcp://127.0.0.1:1",
	}
}

func payload(ctx context.Context, a *asker) error {
	ctx, err := begun(ctx)
	if err != nil {
		return err
	}
	service := &registry.NetworkService{Name: "asker-service"}
	if _, err := a.services().Register(ctx, service); err != nil {
		return err
	}
	found, err := a.services().Find(ctx, &registry.NetworkServiceQuery{NetworkService: service})
	if err != nil {
		return err
	}
	answer, err := found.Recv()
	if err != nil {
		return err
	}
	_, err = a.services().Unregister(ctx, service)
	return errors.Join(err, want("payload", "IP", answer.GetNetworkService().GetPayload()))
}

func registryPath(ctx context.Context, a *asker) error {
	ctx, err := begun(ctx)
	if err != nil {
		return err
	}
	var header metadata.MD
	registered, err := a.endpoints().Register(ctx, mine("path"), grpc.Header(&header))
	if err != nil {
		return err
	}
	path, err := meta.HeaderPath(header)
	if err != nil {
		return err
	}
	_, err = a.endpoints().Unregister(ctx, registered)
	if len(path.PathSegments) < 2 {
		return fmt.Errorf("%d segments", len(path.PathSegments))
	}
	for at, segment := range path.PathSegments {
		if _, _, wrong := decode(segment.Token); wrong != nil {
			err = errors.Join(err, fmt.Errorf("segment %d: %w", at, wrong))
		}
	}
	_, own, wrong := decode(path.PathSegments[0].Token)
	return errors.Join(err, wrong, want("index", 0, path.Index), want("owner", registered.GetPathIds()[0], own.Subject))
}

func (a *asker) find(ctx context.Context, like *registry.NetworkServiceEndpoint) (names []string, err error) {
	found, err := a.endpoints().Find(ctx, &registry.NetworkServiceEndpointQuery{NetworkServiceEndpoint: like})
	if err != nil {
		return nil, err
	}
	for {
		answer, err := found.Recv()
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names = append(names, answer.GetNetworkServiceEndpoint().GetName())
	}
}

func expired(ctx context.Context, a *asker) error {
	ctx, err := begun(ctx)
	if err != nil {
		return err
	}
	endpoint := mine("expired")
	endpoint.ExpirationTime = timestamppb.New(time.Now().Add(2 * time.Second))
	registered, err := a.endpoints().Register(ctx, endpoint)
	if err != nil {
		return err
	}
	like := &registry.NetworkServiceEndpoint{NetworkServiceNames: endpoint.GetNetworkServiceNames()}
	before, err := a.find(ctx, like)
	if err != nil {
		return err
	}
	time.Sleep(time.Until(registered.GetExpirationTime().AsTime()) + 100*time.Millisecond)
	after, err := a.find(ctx, like)
	return errors.Join(err, want("before", 1, len(before)), want("after", 0, len(after)))
}

func watched(ctx context.Context, a *asker) error {
	ctx, err := begun(ctx)
	if err != nil {
		return err
	}
	endpoint := mine("watched")
	like := &registry.NetworkServiceEndpoint{NetworkServiceNames: endpoint.GetNetworkServiceNames()}
	watch, err := a.endpoints().Find(ctx, &registry.NetworkServiceEndpointQuery{NetworkServiceEndpoint: like, Watch: true})
	if err != nil {
		return err
	}
	registered, err := a.endpoints().Register(ctx, endpoint)
	if err != nil {
		return err
	}
	there, err := watch.Recv()
	if err != nil {
		return err
	}
	if _, err := a.endpoints().Unregister(ctx, registered); err != nil {
		return err
	}
	gone, err := watch.Recv()
	return errors.Join(err, want("deleted at first", false, there.GetDeleted()), want("deleted then", true, gone.GetDeleted()))
}
