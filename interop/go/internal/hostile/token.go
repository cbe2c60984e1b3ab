package hostile

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"google.golang.org/grpc/metadata"

	"interop/internal/fdconn"
	"interop/internal/meta"
)

const (
	// lifetime is what honest tokens live.
	lifetime = 10 * time.Minute
	// year is longer than any token may live.
	year = 365 * 24 * time.Hour
	// huge is what the padding of an oversized token is: more than an HTTP/2 peer takes as headers
	// by default.
	huge = 128 << 10
)

// badToken changes the claims and the expiry that goes beside, and may sign its own way.
type badToken struct {
	change func(a *attacker, claims jwt.MapClaims, expires *time.Time)
	sign   func(a *attacker, claims jwt.MapClaims) (string, error)
	// pairs changes the metadata.
	pairs func(metadata.MD)
}

// replayed is the case that needs somebody else's token.
const replayed = "replayed"

// badTokens is every wrong token and wrong way to send one.
var badTokens = map[string]badToken{
	"missing-expiry": {pairs: func(md metadata.MD) { delete(md, meta.ExpiresKey) }},
	"bad-expiry":     {pairs: func(md metadata.MD) { md.Set(meta.ExpiresKey, "tomorrow") }},
	"no-token":       {pairs: func(md metadata.MD) { delete(md, meta.TokenKey); delete(md, meta.ExpiresKey) }},
	"two-tokens":     {pairs: func(md metadata.MD) { md.Append(meta.TokenKey, md.Get(meta.TokenKey)[0]) }},
	"two-expiries":   {pairs: func(md metadata.MD) { md.Append(meta.ExpiresKey, md.Get(meta.ExpiresKey)[0]) }},
	"not-a-token":    {pairs: func(md metadata.MD) { md.Set(meta.TokenKey, "a.b.c") }},
	"clock-ahead":    {change: skew(1)},
	"clock-behind":   {change: skew(-1)},
	"expired": {change: func(_ *attacker, claims jwt.MapClaims, _ *time.Time) {
		claims["exp"] = time.Now().Add(-time.Minute).Unix()
	}},
	"no-exp": {change: func(_ *attacker, claims jwt.MapClaims, _ *time.Time) { delete(claims, "exp") }},
	"over-long": {change: func(_ *attacker, claims jwt.MapClaims, expires *time.Time) {
		*expires = time.Now().Add(year)
		claims["exp"] = expires.Unix()
	}},
	"huge-token": {change: func(_ *attacker, claims jwt.MapClaims, _ *time.Time) {
		claims["padding"] = strings.Repeat("x", huge)
	}},
	"wrong-audience": {change: func(a *attacker, claims jwt.MapClaims, _ *time.Time) {
		claims["aud"] = []string{a.id.TrustDomain().ID().String() + "/nobody"}
	}},
	"no-audience": {change: func(_ *attacker, claims jwt.MapClaims, _ *time.Time) { delete(claims, "aud") }},
	"audience-text": {change: func(a *attacker, claims jwt.MapClaims, _ *time.Time) {
		claims["aud"] = a.server
	}},
	"wrong-subject": {change: func(a *attacker, claims jwt.MapClaims, _ *time.Time) { claims["sub"] = a.victim }},
	"alg-none": {sign: func(_ *attacker, claims jwt.MapClaims) (string, error) {
		return jwt.NewWithClaims(jwt.SigningMethodNone, claims).SignedString(jwt.UnsafeAllowNoneSignatureType)
	}},
	"rsa-token": {sign: func(_ *attacker, claims jwt.MapClaims) (string, error) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return "", err
		}
		return jwt.NewWithClaims(jwt.SigningMethodRS256, claims).SignedString(key)
	}},
	"bad-signature": {sign: func(a *attacker, claims jwt.MapClaims) (string, error) {
		return a.signAs(claims, a.stranger)
	}},
	replayed: {sign: func(a *attacker, _ jwt.MapClaims) (string, error) { return a.stolen() }},
}

// skew is a token of a clock that is off.
func skew(sign time.Duration) func(*attacker, jwt.MapClaims, *time.Time) {
	return func(a *attacker, claims jwt.MapClaims, expires *time.Time) {
		*expires = expires.Add(sign * a.skew)
		claims["exp"] = expires.Unix()
	}
}

// metadata is the token's pairs for a call to the server.
func (b badToken) metadata(a *attacker) (metadata.MD, error) {
	expires := time.Now().Add(lifetime)
	claims := a.claims(expires)
	if b.change != nil {
		b.change(a, claims, &expires)
	}
	sign := b.sign
	if sign == nil {
		sign = func(a *attacker, claims jwt.MapClaims) (string, error) { return a.signAs(claims, a.key) }
	}
	token, err := sign(a, claims)
	if err != nil {
		return nil, err
	}
	pairs := metadata.New(meta.TokenPairs(token, expires))
	if b.pairs != nil {
		b.pairs(pairs)
	}
	return pairs, nil
}

// bind ties a call to its connection, so that descriptors can go with it; the tokens are in the
// context's metadata, where there is room for two of a key.
type bind struct{}

func (bind) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	fdconn.Bind(ctx)
	return nil, nil
}

func (bind) RequireTransportSecurity() bool { return true }
