package meta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// PathKey is the key of a registry call's path, in the request's metadata and the answer's header.
const PathKey = "path"

// Path is a registry call's path: another one than a connection's.
type Path struct {
	// Index is the place of the current segment.
	Index uint32
	// PathSegments starts with the caller that began.
	PathSegments []*Segment
}

// Segment is one hop of a registry call.
type Segment struct {
	// Token is the hop's.
	Token string `json:"token"`
}

// Clone copies a path.
func (p *Path) Clone() *Path {
	copied := &Path{Index: p.Index}
	for _, segment := range p.PathSegments {
		copied.PathSegments = append(copied.PathSegments, &Segment{Token: segment.Token})
	}
	return copied
}

// Left is the path up to the current segment.
func (p *Path) Left() *Path {
	if int(p.Index) >= len(p.PathSegments) {
		return &Path{Index: p.Index, PathSegments: p.PathSegments}
	}
	return &Path{Index: p.Index, PathSegments: p.PathSegments[:p.Index+1]}
}

type pathKey struct{}

// WithPath keeps a path in the context; elements change it in place.
func WithPath(ctx context.Context, path *Path) context.Context {
	return context.WithValue(ctx, pathKey{}, path)
}

// PathFrom is the context's path, an empty one if it has none.
func PathFrom(ctx context.Context) *Path {
	if path, ok := ctx.Value(pathKey{}).(*Path); ok {
		return path
	}
	return &Path{}
}

// IncomingPath reads the path of an incoming call.
func IncomingPath(ctx context.Context) (*Path, error) {
	incoming, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return nil, errors.New("the call carries no metadata")
	}
	return HeaderPath(incoming)
}

// HeaderPath reads the path out of metadata; the last value counts.
func HeaderPath(md metadata.MD) (*Path, error) {
	values := md.Get(PathKey)
	if len(values) == 0 {
		return nil, fmt.Errorf("metadata has no %s", PathKey)
	}
	path := &Path{}
	if err := json.Unmarshal([]byte(values[len(values)-1]), path); err != nil {
		return nil, fmt.Errorf("metadata %s: %w", PathKey, err)
	}
	return path, nil
}

// OutgoingPath adds the path to an outgoing call.
func OutgoingPath(ctx context.Context, path *Path) (context.Context, error) {
	text, err := json.Marshal(path)
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, PathKey, string(text)), nil
}

// AnswerPath sends the path in the header of an answer.
func AnswerPath(ctx context.Context, path *Path) error {
	text, err := json.Marshal(path)
	if err != nil {
		return err
	}
	return grpc.SendHeader(ctx, metadata.Pairs(PathKey, string(text)))
}
