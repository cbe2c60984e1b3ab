package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"interop/internal/fdconn"
	"interop/internal/meta"
)

// Generator makes a token for a peer, and says until when it is to be taken as valid: no later
// than the peer's own certificate, which the token's exp does not regard.
type Generator func(peer credentials.AuthInfo) (string, time.Time, error)

// NewGenerator makes tokens that live for at most so long, and not longer than the own SVID.
func NewGenerator(source x509svid.Source, life time.Duration) Generator {
	return func(info credentials.AuthInfo) (string, time.Time, error) {
		own, err := source.GetX509SVID()
		if err != nil {
			return "", time.Time{}, fmt.Errorf("token: %w", err)
		}
		expires := earlier(time.Now().Add(life), own.Certificates[0].NotAfter)
		claims := jwt.RegisteredClaims{
			Subject:   own.ID.String(),
			ExpiresAt: jwt.NewNumericDate(expires),
		}
		if secured, ok := info.(credentials.TLSInfo); ok && len(secured.State.PeerCertificates) > 0 {
			certificate := secured.State.PeerCertificates[0]
			audience, err := x509svid.IDFromCert(certificate)
			if err != nil {
				return "", time.Time{}, fmt.Errorf("token: the peer's certificate: %w", err)
			}
			claims.Audience = jwt.ClaimStrings{audience.String()}
			expires = earlier(expires, certificate.NotAfter)
		}
		token, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(own.PrivateKey)
		if err != nil {
			return "", time.Time{}, fmt.Errorf("token: sign: %w", err)
		}
		return token, expires, nil
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// ForCaller makes a token for whoever made the incoming call of this context.
func (g Generator) ForCaller(ctx context.Context) (string, time.Time, error) {
	var info credentials.AuthInfo
	if caller, ok := peer.FromContext(ctx); ok {
		info = caller.AuthInfo
	}
	return g(info)
}

// Subject is who a token says it is from; the signature is not looked at.
func Subject(token string) (string, error) {
	claims := jwt.RegisteredClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	if claims.Subject == "" {
		return "", errors.New("token: no sub")
	}
	return claims.Subject, nil
}

// PerRPC gives each call a token for the peer that it goes to, and ties the call to its
// connection so that descriptors can go with it.
func PerRPC(generator Generator) credentials.PerRPCCredentials { return &perRPC{generator} }

type perRPC struct{ generator Generator }

func (p *perRPC) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	to, ok := peer.FromContext(ctx)
	if !ok {
		return nil, errors.New("token: the call has no peer")
	}
	fdconn.Bind(ctx)
	token, expires, err := p.generator(to.AuthInfo)
	if err != nil {
		return nil, err
	}
	return meta.TokenPairs(token, expires), nil
}

func (p *perRPC) RequireTransportSecurity() bool { return true }
