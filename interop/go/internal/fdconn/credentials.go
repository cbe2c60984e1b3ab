package fdconn

import (
	"context"
	"net"

	"google.golang.org/grpc/credentials"
)

// Under puts the passing of descriptors under other transport credentials.
func Under(above credentials.TransportCredentials) credentials.TransportCredentials {
	return &under{above}
}

type under struct {
	credentials.TransportCredentials
}

func (u *under) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return u.TransportCredentials.ClientHandshake(ctx, authority, Wrap(raw))
}

func (u *under) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return u.TransportCredentials.ServerHandshake(Wrap(raw))
}

func (u *under) Clone() credentials.TransportCredentials {
	return &under{u.TransportCredentials.Clone()}
}
