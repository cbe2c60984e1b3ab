// Package meta reads and writes what calls carry beside their message: the caller's token with
// its expiry, and the path header of registry calls.
package meta

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/metadata"
)

// The keys of the caller's token, on every call and stream.
const (
	TokenKey   = "nsm-client-token"
	ExpiresKey = "nsm-client-token-expires"
)

// Token reads the token of an incoming call and when it expires. Exactly one value of each key
// is expected.
func Token(ctx context.Context) (string, time.Time, error) {
	incoming, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return "", time.Time{}, errors.New("the call carries no metadata")
	}
	token, err := single(incoming, TokenKey)
	if err != nil {
		return "", time.Time{}, err
	}
	text, err := single(incoming, ExpiresKey)
	if err != nil {
		return "", time.Time{}, err
	}
	expires, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("metadata %s %q: %w", ExpiresKey, text, err)
	}
	return token, expires, nil
}

// TokenPairs is the metadata that carries a token.
func TokenPairs(token string, expires time.Time) map[string]string {
	return map[string]string{TokenKey: token, ExpiresKey: expires.Format(time.RFC3339Nano)}
}

func single(md metadata.MD, key string) (string, error) {
	values := md.Get(key)
	if len(values) != 1 {
		return "", fmt.Errorf("metadata %s has %d values, expected 1", key, len(values))
	}
	return values[0], nil
}
