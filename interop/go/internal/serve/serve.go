// Package serve has a role's handlers answer gRPC on its sockets.
package serve

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
)

// stopTimeout is how long calls may go on after the end was asked for.
const stopTimeout = 2 * time.Second

// Server is one gRPC server on some sockets.
type Server struct {
	// GRPC is where services are registered before [Server.Run].
	GRPC *grpc.Server
}

// New makes one that speaks through these credentials.
func New(secured credentials.TransportCredentials) *Server {
	return &Server{GRPC: grpc.NewServer(grpc.Creds(secured), grpc.UnaryInterceptor(unary), grpc.StreamInterceptor(stream))}
}

// Listen opens the socket of a URL: `unix:///a/b`, or `tcp://host:port`.
func Listen(on *url.URL) (net.Listener, error) {
	if on.Scheme != "unix" {
		return net.Listen("tcp", on.Host)
	}
	if err := os.MkdirAll(filepath.Dir(on.Path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(on.Path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	listener, err := net.Listen("unix", on.Path)
	if err != nil {
		return nil, err
	}
	// Who may speak is a matter of identity, not of users.
	return listener, os.Chmod(on.Path, 0o777)
}

// Start says that every service is healthy, and answers on the URLs until the context ends. The
// channel gets what ended it.
func (s *Server) Start(ctx context.Context, on ...*url.URL) (<-chan error, error) {
	states := health.NewServer()
	for name := range s.GRPC.GetServiceInfo() {
		states.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	healthpb.RegisterHealthServer(s.GRPC, states)
	ended := make(chan error, len(on)+1)
	for _, each := range on {
		listener, err := Listen(each)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", each, err)
		}
		go func() { ended <- s.GRPC.Serve(listener) }()
	}
	go func() {
		<-ctx.Done()
		s.Stop()
	}()
	return ended, nil
}

// Stop ends what is running: calls get a little time.
func (s *Server) Stop() {
	force := time.AfterFunc(stopTimeout, s.GRPC.Stop)
	defer force.Stop()
	s.GRPC.GracefulStop()
}

// NetworkService has a chain answer requests, and a monitor answer who watches.
func (s *Server) NetworkService(handler chain.Handler, monitor connection.MonitorConnectionServer) {
	networkservice.RegisterNetworkServiceServer(s.GRPC, &networkServices{handler: handler})
	connection.RegisterMonitorConnectionServer(s.GRPC, monitor)
}

type networkServices struct {
	networkservice.UnimplementedNetworkServiceServer
	handler chain.Handler
}

func (n *networkServices) Request(ctx context.Context, request *networkservice.NetworkServiceRequest) (*connection.Connection, error) {
	return n.handler.Request(ctx, request)
}

func (n *networkServices) Close(ctx context.Context, conn *connection.Connection) (*emptypb.Empty, error) {
	if err := n.handler.Close(ctx, conn); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}
