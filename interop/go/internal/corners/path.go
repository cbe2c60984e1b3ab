package corners

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"interop/internal/gen/connection"
)

// claims are a token's, with the audience as it is written.
type claims struct {
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"`
	Expires  json.Number     `json:"exp"`
}

func decode(token string) (header map[string]any, read claims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, read, fmt.Errorf("a token of %d parts", len(parts))
	}
	for at, into := range []any{&header, &read} {
		text, err := base64.RawURLEncoding.DecodeString(parts[at])
		if err != nil {
			return nil, read, err
		}
		if err := json.Unmarshal(text, into); err != nil {
			return nil, read, err
		}
	}
	return header, read, nil
}

func tokens(ctx context.Context, a *asker) error {
	return a.connected(ctx, func(conn *connection.Connection) error {
		var before []string
		for at, segment := range conn.GetPath().GetPathSegments() {
			header, read, err := decode(segment.GetToken())
			if err != nil {
				return fmt.Errorf("segment %d: %w", at, err)
			}
			var audience []string
			if err := json.Unmarshal(read.Audience, &audience); err != nil {
				return fmt.Errorf("segment %d: aud %s is no list", at, read.Audience)
			}
			if _, err := read.Expires.Int64(); err != nil {
				return fmt.Errorf("segment %d: exp: %w", at, err)
			}
			if at > 0 && !slices.Contains(before, read.Subject) {
				return fmt.Errorf("segment %d is of %s, and the one before is for %v", at, read.Subject, before)
			}
			if err := want("alg", "ES256", header["alg"]); err != nil {
				return err
			}
			before = audience
		}
		return nil
	})
}

func rewound(ctx context.Context, a *asker) error {
	request := a.fresh()
	id := request.Connection.GetId()
	conn, err := a.send(ctx, request)
	if err != nil {
		return err
	}
	defer func() { _, _ = a.requests().Close(ctx, conn) }()
	path := conn.GetPath()
	for _, segment := range path.GetPathSegments() {
		if segment.GetId() == "" || segment.GetName() == "" || segment.GetToken() == "" || segment.GetExpires() == nil {
			return fmt.Errorf("a segment that is not whole: %s of %q", segment.GetId(), segment.GetName())
		}
	}
	return errors.Join(
		want("id", id, conn.GetId()),
		want("index", 0, path.GetIndex()),
		want("id of segment 0", id, path.GetPathSegments()[0].GetId()),
		want("client, manager, forwarder, endpoint", 4, len(path.GetPathSegments())),
	)
}

func ids(conn *connection.Connection) (all []string) {
	for _, segment := range conn.GetPath().GetPathSegments() {
		all = append(all, segment.GetName()+"="+segment.GetId())
	}
	return all
}

func refreshed(ctx context.Context, a *asker) error {
	return a.connected(ctx, func(conn *connection.Connection) error {
		next, err := a.send(ctx, again(proto.CloneOf(conn)))
		if err != nil {
			return err
		}
		return errors.Join(
			want("segments", ids(conn), ids(next)),
			want("addresses", conn.GetContext().GetIpContext().GetSrcIpAddrs(), next.GetContext().GetIpContext().GetSrcIpAddrs()),
			want("endpoint", conn.GetNetworkServiceEndpointName(), next.GetNetworkServiceEndpointName()),
		)
	})
}

func trimmed(ctx context.Context, a *asker) error {
	return a.connected(ctx, func(conn *connection.Connection) error {
		longer := proto.CloneOf(conn)
		last := longer.Path.PathSegments[len(longer.Path.PathSegments)-1]
		for _, name := range []string{"one", "two"} {
			more := proto.CloneOf(last)
			more.Name, more.Id = name, name
			longer.Path.PathSegments = append(longer.Path.PathSegments, more)
		}
		next, err := a.send(ctx, again(longer))
		if err != nil {
			return err
		}
		return want("segments", ids(conn), ids(next))
	})
}

func stale(ctx context.Context, a *asker) error {
	return a.connected(ctx, func(conn *connection.Connection) error {
		other := proto.CloneOf(conn)
		other.Path.PathSegments[1].Name = "a-manager-that-was"
		next, err := a.send(ctx, again(other))
		if err != nil {
			return err
		}
		return want("hop 1", conn.Path.PathSegments[1].GetName(), next.GetPath().GetPathSegments()[1].GetName())
	})
}

func reselected(ctx context.Context, a *asker) error {
	return a.connected(ctx, func(conn *connection.Connection) error {
		other := proto.CloneOf(conn)
		other.State = connection.State_RESELECT_REQUESTED
		other.Mechanism = nil
		other.NetworkServiceEndpointName = ""
		next, err := a.send(ctx, again(other))
		if err != nil {
			return err
		}
		if next.GetNetworkServiceEndpointName() == "" {
			return errors.New("no endpoint")
		}
		return want("state", connection.State_UP, next.GetState())
	})
}

func closedUnknown(ctx context.Context, a *asker) error {
	_, err := a.requests().Close(ctx, a.fresh().Connection)
	return err
}

// closedExpired closes with a token that expired a minute ago; the connection's end is what its
// monitors tell.
func closedExpired(ctx context.Context, a *asker) error {
	conn, err := a.send(ctx, a.fresh())
	if err != nil {
		return err
	}
	watch, err := a.watch(ctx, &connection.PathSegment{Id: conn.GetId()})
	if err != nil {
		return err
	}
	if _, err := watch.Recv(); err != nil {
		return err
	}
	ago := *a
	if ago.conn, err = a.dial(-time.Minute); err != nil {
		return err
	}
	defer func() { _ = ago.conn.Close() }()
	if _, err := ago.requests().Close(ctx, conn); err != nil {
		return err
	}
	event, err := watch.Recv()
	if err != nil {
		return err
	}
	return want("event", connection.ConnectionEventType_DELETE, event.GetType())
}
