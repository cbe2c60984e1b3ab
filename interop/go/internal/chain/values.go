package chain

import (
	"context"
	"net/url"
)

type urlKey struct{}

// WithURL says where the next hop is.
func WithURL(ctx context.Context, to *url.URL) context.Context {
	return context.WithValue(ctx, urlKey{}, to)
}

// URLOf is where the next hop is, nil where nobody has said.
func URLOf(ctx context.Context) *url.URL {
	to, _ := ctx.Value(urlKey{}).(*url.URL)
	return to
}
