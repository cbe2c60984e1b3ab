// Package hostile sends what a hostile or broken peer sends, and tells what came back.
package hostile

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"interop/internal/fdconn"
	"interop/internal/gen/connection"
	"interop/internal/identity"
)

// attacker is an identity of the trust domain that does what it should not.
type attacker struct {
	options
	source identity.Source
	id     spiffeid.ID
	key    crypto.Signer
	// stranger is a key that no certificate has.
	stranger crypto.Signer
	// server is the SPIFFE ID of who is called.
	server string
	conn   *grpc.ClientConn
}

// options are the flags.
type options struct {
	to *url.URL
	// call is which call carries what is wrong: request, close, monitor, register, service, find.
	call string
	// service is asked for, or registered for.
	service string
	// name is the attacker's own as a hop, or what it registers.
	name string
	// victim is the SPIFFE ID of somebody else.
	victim string
	// theirs is somebody else's connection, or its id and hop name.
	theirs *connection.Connection
	// token is a file with somebody else's token.
	token string
	skew  time.Duration
	count int
	hold  time.Duration
	wait  time.Duration
}

func newAttacker(ctx context.Context, source identity.Source, options options) (*attacker, error) {
	svid, err := source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	a := &attacker{options: options, source: source, id: svid.ID, key: svid.PrivateKey}
	if a.stranger, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if a.conn, err = a.dial(); err != nil {
		return nil, err
	}
	return a, a.meet(ctx)
}

func (a *attacker) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient(identity.Target(a.to),
		grpc.WithTransportCredentials(identity.Client(a.source)),
		grpc.WithDefaultCallOptions(grpc.PerRPCCredentials(bind{})),
	)
}

// meet learns who the server is.
func (a *attacker) meet(ctx context.Context) error {
	var who peer.Peer
	_, err := grpc_health_v1.NewHealthClient(a.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{},
		grpc.Peer(&who), grpc.WaitForReady(true))
	secured, ok := who.AuthInfo.(credentials.TLSInfo)
	if !ok || len(secured.State.PeerCertificates) == 0 {
		return fmt.Errorf("meet the server: %w", errors.Join(err, errors.New("it showed no certificate")))
	}
	id, err := x509svid.IDFromCert(secured.State.PeerCertificates[0])
	a.server = id.String()
	return err
}

// claims are an honest token's.
func (a *attacker) claims(expires time.Time) jwt.MapClaims {
	return jwt.MapClaims{"sub": a.id.String(), "aud": []string{a.server}, "exp": expires.Unix()}
}

func (a *attacker) signAs(claims jwt.MapClaims, key crypto.Signer) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(key)
}

// forge makes a token in somebody's name for somebody, signed with the only key there is: who
// looks at all signatures sees it, who looks at names does not.
func (a *attacker) forge(from, to string) (string, error) {
	claims := jwt.MapClaims{"sub": from, "aud": []string{to}, "exp": time.Now().Add(lifetime).Unix()}
	return a.signAs(claims, a.key)
}

// stolen is a token that somebody else made for the server.
func (a *attacker) stolen() (string, error) {
	if a.token == "" {
		return "", errors.New("--token is missing: the file with somebody else's token")
	}
	text, err := os.ReadFile(a.token)
	return strings.TrimSpace(string(text)), err
}

// with is a context whose call carries this token.
func (a *attacker) with(ctx context.Context, token badToken) (context.Context, error) {
	pairs, err := token.metadata(a)
	if err != nil {
		return nil, err
	}
	before, _ := metadata.FromOutgoingContext(ctx)
	ctx, _ = fdconn.WithCall(metadata.NewOutgoingContext(ctx, metadata.Join(before, pairs)))
	return ctx, nil
}

// honestly is a context whose call carries a good token.
func (a *attacker) honestly(ctx context.Context) (context.Context, error) {
	return a.with(ctx, badToken{})
}
