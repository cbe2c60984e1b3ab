package hostile

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/gen/registry"
	"interop/internal/mechanism"
	"interop/internal/meta"
)

// answer is what came back.
type answer struct {
	// ID of the connection that was given, or whatever names were seen.
	IDs []string
	// Sent is how many of what was sent by number were sent.
	Sent int
}

// make makes the call that the flag says.
func (a *attacker) make(ctx context.Context) (answer, error) {
	switch a.call {
	case "request":
		return a.request(ctx, a.fresh())
	case "close":
		return a.close(ctx, a.fresh().Connection)
	case "monitor":
		return a.monitor(ctx, &connection.MonitorScopeSelector{})
	case "register":
		return a.register(ctx, &meta.Path{}, nil)
	case "service":
		return a.registerService(ctx)
	case "find":
		return a.find(ctx)
	default:
		return answer{}, fmt.Errorf("--call %q: there is request, close, monitor, register, service, find", a.call)
	}
}

// fresh is an honest client's first request.
func (a *attacker) fresh() *networkservice.NetworkServiceRequest {
	id := a.name + "-" + uuid.NewString()
	return &networkservice.NetworkServiceRequest{
		Connection: &connection.Connection{
			Id:             id,
			NetworkService: a.service,
			Path: &connection.Path{PathSegments: []*connection.PathSegment{
				{Name: a.name, Id: id},
			}},
		},
		MechanismPreferences: []*connection.Mechanism{{
			Cls: mechanism.Local, Type: mechanism.Kernel,
			Parameters: map[string]string{mechanism.Name: "nsm-1"},
		}},
	}
}

func (a *attacker) request(ctx context.Context, request *networkservice.NetworkServiceRequest) (answer, error) {
	conn, err := networkservice.NewNetworkServiceClient(a.conn).Request(ctx, request)
	if err != nil {
		return answer{}, err
	}
	return answer{IDs: []string{conn.GetId()}}, nil
}

func (a *attacker) close(ctx context.Context, conn *connection.Connection) (answer, error) {
	_, err := networkservice.NewNetworkServiceClient(a.conn).Close(ctx, conn)
	return answer{}, err
}

// monitor tells which connections it is shown within the time to wait.
func (a *attacker) monitor(ctx context.Context, selector *connection.MonitorScopeSelector) (answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := connection.NewMonitorConnectionClient(a.conn).MonitorConnections(ctx, selector)
	if err != nil {
		return answer{}, err
	}
	time.AfterFunc(a.wait, cancel)
	var seen []string
	for {
		event, err := stream.Recv()
		if err != nil {
			if status.Code(err) == codes.Canceled {
				return answer{IDs: seen}, nil
			}
			return answer{IDs: seen}, err
		}
		for id := range event.GetConnections() {
			seen = append(seen, id)
		}
	}
}

func (a *attacker) register(ctx context.Context, path *meta.Path, ids []string) (answer, error) {
	ctx, err := meta.OutgoingPath(ctx, path)
	if err != nil {
		return answer{}, err
	}
	endpoint, err := registry.NewNetworkServiceEndpointRegistryClient(a.conn).Register(ctx, &registry.NetworkServiceEndpoint{
		Name:                a.name,
		NetworkServiceNames: []string{a.service},
		NetworkServiceLabels: map[string]*registry.NetworkServiceLabels{
			a.service: {Labels: map[string]string{"p2p": "true"}},
		},
		Url:     "tcp://127.0.0.1:1",
		PathIds: ids,
	})
	return answer{IDs: endpoint.GetPathIds()}, err
}

func (a *attacker) registerService(ctx context.Context) (answer, error) {
	ctx, err := meta.OutgoingPath(ctx, &meta.Path{})
	if err != nil {
		return answer{}, err
	}
	service, err := registry.NewNetworkServiceRegistryClient(a.conn).Register(ctx, &registry.NetworkService{Name: a.service})
	return answer{IDs: service.GetPathIds()}, err
}

func (a *attacker) find(ctx context.Context) (answer, error) {
	stream, err := registry.NewNetworkServiceEndpointRegistryClient(a.conn).Find(ctx, &registry.NetworkServiceEndpointQuery{
		NetworkServiceEndpoint: &registry.NetworkServiceEndpoint{},
	})
	if err != nil {
		return answer{}, err
	}
	var seen []string
	for {
		found, err := stream.Recv()
		if err == io.EOF {
			return answer{IDs: seen}, nil
		}
		if err != nil {
			return answer{IDs: seen}, err
		}
		seen = append(seen, found.GetNetworkServiceEndpoint().GetName())
	}
}

// stolenConnection is somebody else's connection as its client would send it again.
func (a *attacker) stolenConnection() (*connection.Connection, error) {
	if a.theirs == nil {
		return nil, fmt.Errorf("--connection or --id is missing: somebody else's connection")
	}
	conn := proto.CloneOf(a.theirs)
	if conn.GetNetworkService() == "" {
		conn.NetworkService = a.service
	}
	return conn, nil
}
