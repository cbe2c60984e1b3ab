// Package corners asks the roles of a mesh for what an implementation of the API gets wrong first,
// and tells of each corner whether it holds.
package corners

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"interop/internal/fdconn"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/gen/registry"
	"interop/internal/identity"
	"interop/internal/mechanism"
)

const (
	// life is how long the asker's tokens live: what the field's clients say.
	life = 10 * time.Minute
	// patience is how long one corner may take.
	patience = 10 * time.Second
	// soon is how long an event may take that follows from a call.
	soon = 3 * time.Second
)

// asker is a client of a manager.
type asker struct {
	to *url.URL
	// service is one that an endpoint offers.
	service string
	// node is the name of the manager's node.
	node   string
	name   string
	source identity.Source
	conn   *grpc.ClientConn
}

// dial makes a connection of its own whose tokens live so long from now.
func (a *asker) dial(life time.Duration) (*grpc.ClientConn, error) {
	options := identity.DialOptions(a.source, identity.NewGenerator(a.source, life))
	return grpc.NewClient(identity.Target(a.to), options...)
}

func (a *asker) requests() networkservice.NetworkServiceClient {
	return networkservice.NewNetworkServiceClient(a.conn)
}

func (a *asker) monitors() connection.MonitorConnectionClient {
	return connection.NewMonitorConnectionClient(a.conn)
}

func (a *asker) services() registry.NetworkServiceRegistryClient {
	return registry.NewNetworkServiceRegistryClient(a.conn)
}

func (a *asker) endpoints() registry.NetworkServiceEndpointRegistryClient {
	return registry.NewNetworkServiceEndpointRegistryClient(a.conn)
}

// fresh is a first request; its namespace is not sent yet.
func (a *asker) fresh() *networkservice.NetworkServiceRequest {
	id := a.name + "-" + uuid.NewString()
	return &networkservice.NetworkServiceRequest{
		Connection: &connection.Connection{
			Id:             id,
			NetworkService: a.service,
			Path:           &connection.Path{PathSegments: []*connection.PathSegment{{Name: a.name, Id: id}}},
		},
		MechanismPreferences: []*connection.Mechanism{kernel("nsm-1")},
	}
}

func kernel(name string) *connection.Mechanism {
	return &connection.Mechanism{
		Cls: mechanism.Local, Type: mechanism.Kernel,
		Parameters: map[string]string{mechanism.Name: name},
	}
}

// send makes a request, with the own namespace's descriptor beside it.
func (a *asker) send(ctx context.Context, request *networkservice.NetworkServiceRequest) (*connection.Connection, error) {
	ctx, call := fdconn.WithCall(ctx)
	inode, err := call.SendFile(namespace)
	if err != nil {
		return nil, err
	}
	in(request, inode)
	return a.requests().Request(ctx, request)
}

// namespace is this process's own: it never enters another one.
const namespace = "/proc/self/ns/net"

// in says which namespace the interface is to be in.
func in(request *networkservice.NetworkServiceRequest, inode fdconn.Inode) {
	for _, preference := range request.GetMechanismPreferences() {
		preference.Parameters[mechanism.InodeURL] = inode.URL()
	}
	if chosen := request.GetConnection().GetMechanism(); chosen != nil {
		chosen.Parameters[mechanism.InodeURL] = inode.URL()
	}
}

// connected is a connection for one corner; it is closed after it.
func (a *asker) connected(ctx context.Context, use func(conn *connection.Connection) error) error {
	conn, err := a.send(ctx, a.fresh())
	if err != nil {
		return err
	}
	defer func() { _, _ = a.requests().Close(context.WithoutCancel(ctx), conn) }()
	return use(conn)
}

// again is the refresh of a connection.
func again(conn *connection.Connection) *networkservice.NetworkServiceRequest {
	return &networkservice.NetworkServiceRequest{Connection: conn, MechanismPreferences: []*connection.Mechanism{kernel("nsm-1")}}
}

// beside makes a call that carries nothing but a descriptor.
func (a *asker) beside(ctx context.Context) (fdconn.Inode, error) {
	ctx, call := fdconn.WithCall(ctx)
	inode, err := call.SendFile(namespace)
	if err != nil {
		return inode, err
	}
	_, err = grpc_health_v1.NewHealthClient(a.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return inode, err
}

// want is the error of a corner that does not hold.
func want(what string, wanted, have any) error {
	if fmt.Sprint(wanted) == fmt.Sprint(have) {
		return nil
	}
	return fmt.Errorf("%s: want %v, have %v", what, wanted, have)
}
