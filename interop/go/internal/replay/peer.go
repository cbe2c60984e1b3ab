package replay

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"google.golang.org/grpc"
	grpcpeer "google.golang.org/grpc/peer"

	"interop/internal/fdconn"
	"interop/internal/identity"
	"interop/internal/meta"
	"interop/internal/serve"
	"interop/internal/workloadapi"
)

// life is what the peers' tokens live where the recording does not say: the Go implementation's
// default.
const life = 10 * time.Minute

// peer is one of the other sides, as it is played.
type peer struct {
	id     string
	life   time.Duration
	source *workloadapi.Source
	// socket is the file of its unix socket, tcp the URL of its other one.
	socket string
	tcp    *url.URL
	// role is the connection to the program.
	role *grpc.ClientConn
}

func newPeer(id string, source *workloadapi.Source, life time.Duration) *peer {
	return &peer{id: id, life: life, source: source}
}

// listen has the peer answer what the program asks it.
func (p *peer) listen(ctx context.Context, dir string, number int, handle grpc.StreamHandler) error {
	server := &serve.Server{GRPC: grpc.NewServer(
		grpc.Creds(identity.Server(p.source)), grpc.UnknownServiceHandler(handle),
	)}
	p.socket = filepath.Join(dir, fmt.Sprintf("peer-%d.sock", number))
	free, err := freeTCP()
	if err != nil {
		return err
	}
	p.tcp = free
	_, err = server.Start(ctx, &url.URL{Scheme: "unix", Path: p.socket}, p.tcp)
	return err
}

// freeTCP is a URL on which nobody listens.
func freeTCP() (*url.URL, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: "tcp", Host: listener.Addr().String()}, listener.Close()
}

// connect is how it calls the program.
func (p *peer) connect(to *url.URL) (err error) {
	p.role, err = grpc.NewClient(identity.Target(to),
		grpc.WithTransportCredentials(identity.Client(p.source)),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.PerRPCCredentials(p)))
	return err
}

type lifeKey struct{}

// withLife is a context whose call has a token that lives so long.
func withLife(ctx context.Context, life time.Duration) context.Context {
	return context.WithValue(ctx, lifeKey{}, life)
}

// GetRequestMetadata is the token of a call.
func (p *peer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	fdconn.Bind(ctx)
	to, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return nil, errors.New("the call has no peer")
	}
	life, set := ctx.Value(lifeKey{}).(time.Duration)
	if !set {
		life = p.life
	}
	token, expires, err := identity.NewGenerator(p.source, life)(to.AuthInfo)
	if err != nil {
		return nil, err
	}
	return meta.TokenPairs(token, expires), nil
}

// RequireTransportSecurity is as a token's should be.
func (p *peer) RequireTransportSecurity() bool { return true }

// token makes one for somebody by name.
func (p *peer) token(to string) (string, error) {
	svid, err := p.source.GetX509SVID()
	if err != nil {
		return "", err
	}
	claims := jwt.RegisteredClaims{Subject: p.id, ExpiresAt: jwt.NewNumericDate(time.Now().Add(p.life))}
	if to != "" {
		claims.Audience = jwt.ClaimStrings{to}
	}
	return jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(crypto.Signer(svid.PrivateKey))
}
