package serve

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"interop/internal/gen/registry"
	"interop/internal/regchain"
)

// Registry has two chains answer registry calls.
func (s *Server) Registry(services regchain.Handler[regchain.Service], endpoints regchain.Handler[regchain.Endpoint]) {
	registry.RegisterNetworkServiceRegistryServer(s.GRPC, &registryServices{handler: services})
	registry.RegisterNetworkServiceEndpointRegistryServer(s.GRPC, &registryEndpoints{handler: endpoints})
}

type registryServices struct {
	registry.UnimplementedNetworkServiceRegistryServer
	handler regchain.Handler[regchain.Service]
}

func (r *registryServices) Register(ctx context.Context, entry *registry.NetworkService) (*registry.NetworkService, error) {
	return r.handler.Register(ctx, entry)
}

func (r *registryServices) Find(query *registry.NetworkServiceQuery, stream grpc.ServerStreamingServer[registry.NetworkServiceResponse]) error {
	wanted := regchain.Query[regchain.Service]{Like: query.GetNetworkService(), Watch: query.GetWatch()}
	return r.handler.Find(stream.Context(), wanted, func(found regchain.Found[regchain.Service]) error {
		return stream.Send(&registry.NetworkServiceResponse{NetworkService: found.Entry, Deleted: found.Deleted})
	})
}

func (r *registryServices) Unregister(ctx context.Context, entry *registry.NetworkService) (*emptypb.Empty, error) {
	if err := r.handler.Unregister(ctx, entry); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

type registryEndpoints struct {
	registry.UnimplementedNetworkServiceEndpointRegistryServer
	handler regchain.Handler[regchain.Endpoint]
}

func (r *registryEndpoints) Register(ctx context.Context, entry *registry.NetworkServiceEndpoint) (*registry.NetworkServiceEndpoint, error) {
	return r.handler.Register(ctx, entry)
}

func (r *registryEndpoints) Find(query *registry.NetworkServiceEndpointQuery, stream grpc.ServerStreamingServer[registry.NetworkServiceEndpointResponse]) error {
	wanted := regchain.Query[regchain.Endpoint]{Like: query.GetNetworkServiceEndpoint(), Watch: query.GetWatch()}
	return r.handler.Find(stream.Context(), wanted, func(found regchain.Found[regchain.Endpoint]) error {
		return stream.Send(&registry.NetworkServiceEndpointResponse{NetworkServiceEndpoint: found.Entry, Deleted: found.Deleted})
	})
}

func (r *registryEndpoints) Unregister(ctx context.Context, entry *registry.NetworkServiceEndpoint) (*emptypb.Empty, error) {
	if err := r.handler.Unregister(ctx, entry); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}
