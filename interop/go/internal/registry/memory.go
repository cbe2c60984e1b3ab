package registry

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/gen/registry"
	"interop/internal/mechanism"
)

// Services is the registry of network services, in memory.
type Services struct {
	registry.UnimplementedNetworkServiceRegistryServer
	front *Front[*registry.NetworkService]
	store store[*registry.NetworkService]
}

// NewServices makes one that asks the front's policies first.
func NewServices(front *Front[*registry.NetworkService]) *Services {
	front.SetPathIDs = func(service *registry.NetworkService, ids []string) { service.PathIds = ids }
	return &Services{front: front}
}

// Register stores a service; one without a payload gets IP.
func (s *Services) Register(ctx context.Context, in *registry.NetworkService) (*registry.NetworkService, error) {
	return s.front.Register(ctx, in, func(_ context.Context, in *registry.NetworkService) (*registry.NetworkService, error) {
		if in.GetPayload() == "" {
			in.Payload = mechanism.PayloadIP
		}
		s.store.put(in.GetName(), in)
		return in, nil
	})
}

// Find sends the services that match.
func (s *Services) Find(query *registry.NetworkServiceQuery, stream registry.NetworkServiceRegistry_FindServer) error {
	match := func(is *registry.NetworkService) bool { return MatchService(query.GetNetworkService(), is) }
	send := func(service *registry.NetworkService, deleted bool) error {
		return stream.Send(&registry.NetworkServiceResponse{NetworkService: service, Deleted: deleted})
	}
	if query.GetWatch() {
		return s.store.watch(stream.Context(), match, send)
	}
	return s.store.find(match, send)
}

// Unregister takes a service out.
func (s *Services) Unregister(ctx context.Context, in *registry.NetworkService) (*emptypb.Empty, error) {
	err := s.front.Unregister(ctx, in, func(_ context.Context, in *registry.NetworkService) error {
		s.store.remove(in.GetName())
		return nil
	})
	return answer(err)
}

// Memory is the registry of endpoints, in memory.
type Memory struct {
	registry.UnimplementedNetworkServiceEndpointRegistryServer
	front *Front[*registry.NetworkServiceEndpoint]
	turns Turns
	kept  *kept
}

// NewMemory makes one that asks the front's policies first and forgets an endpoint that is not
// refreshed for so long.
func NewMemory(front *Front[*registry.NetworkServiceEndpoint], expiration time.Duration) *Memory {
	front.SetPathIDs = func(endpoint *registry.NetworkServiceEndpoint, ids []string) { endpoint.PathIds = ids }
	kept := &kept{first: make(map[string]*timestamppb.Timestamp)}
	return &Memory{front: front, kept: kept, turns: Turns{Expiration: expiration, After: kept}}
}

// Register stores an endpoint.
func (m *Memory) Register(ctx context.Context, in *registry.NetworkServiceEndpoint) (*registry.NetworkServiceEndpoint, error) {
	return m.front.Register(ctx, in, m.turns.Register)
}

// Find sends the endpoints that match; expiry is for the finder to look at.
func (m *Memory) Find(query *registry.NetworkServiceEndpointQuery, stream registry.NetworkServiceEndpointRegistry_FindServer) error {
	match := func(is *registry.NetworkServiceEndpoint) bool {
		return MatchEndpoint(query.GetNetworkServiceEndpoint(), is)
	}
	send := func(endpoint *registry.NetworkServiceEndpoint, deleted bool) error {
		return stream.Send(&registry.NetworkServiceEndpointResponse{NetworkServiceEndpoint: endpoint, Deleted: deleted})
	}
	if query.GetWatch() {
		return m.kept.store.watch(stream.Context(), match, send)
	}
	return m.kept.store.find(match, send)
}

// Unregister takes an endpoint out.
func (m *Memory) Unregister(ctx context.Context, in *registry.NetworkServiceEndpoint) (*emptypb.Empty, error) {
	return answer(m.front.Unregister(ctx, in, m.turns.Unregister))
}

// kept is the end of the list: the time of the first registration, and the store.
type kept struct {
	store store[*registry.NetworkServiceEndpoint]
	mu    sync.Mutex
	first map[string]*timestamppb.Timestamp
}

func (k *kept) Register(_ context.Context, in *registry.NetworkServiceEndpoint) (*registry.NetworkServiceEndpoint, error) {
	k.mu.Lock()
	if first, known := k.first[in.GetName()]; known {
		in.InitialRegistrationTime = first
	} else {
		if in.GetInitialRegistrationTime() == nil {
			in.InitialRegistrationTime = timestamppb.Now()
		}
		k.first[in.GetName()] = in.GetInitialRegistrationTime()
	}
	k.mu.Unlock()
	k.store.put(in.GetName(), in)
	return in, nil
}

func (k *kept) Unregister(_ context.Context, in *registry.NetworkServiceEndpoint) error {
	k.mu.Lock()
	delete(k.first, in.GetName())
	k.mu.Unlock()
	k.store.remove(in.GetName())
	return nil
}

func answer(err error) (*emptypb.Empty, error) {
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}
