package hostile

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/gen/connection"
	"interop/internal/meta"
)

// oversized is more than the 4 MiB that a gRPC server takes by default.
const oversized = 5 << 20

// attack is one case.
type attack struct {
	// what it is, for --help.
	what string
	run  func(ctx context.Context, a *attacker) (answer, error)
}

// attacks is every case that is not only a [badToken].
var attacks = map[string]attack{
	"honest":            {"a good call, to compare with", honest},
	"wrong-role":        {"a request of a hop that the attacker is not, behind forged segments", wrongRole},
	"wrong-registrar":   {"a registration handed on for somebody else by who is no manager", forgedOwner},
	"forged-owner":      {"a registration whose first segment claims to be somebody else's", forgedOwner},
	"foreign-request":   {"a request for somebody else's connection", foreignRequest},
	"foreign-close":     {"the close of somebody else's connection", foreignClose},
	"foreign-monitor":   {"a monitor of somebody else's connection", foreignMonitor},
	"monitor-all":       {"a monitor of everything", monitorAll},
	"giant-path":        {"a path of --count segments", giantPath},
	"index-beyond":      {"a path whose index is beyond its end", indexBeyond},
	"oversized":         {"a message of more than 4 MiB", oversizedMessage},
	"descriptor-file":   {"a regular file in place of a network namespace", descriptorFile},
	"descriptor-socket": {"a socket in place of a network namespace", descriptorSocket},
	"descriptor-absent": {"an inode URL whose descriptor never comes", descriptorAbsent},
	"descriptor-many":   {"--count descriptors, and none is asked for", descriptorMany},
	"truncated":         {"--count connections that are cut within a frame", truncated},
}

func honest(ctx context.Context, a *attacker) (answer, error) {
	ctx, err := a.honestly(ctx)
	if err != nil {
		return answer{}, err
	}
	return a.make(ctx)
}

// behind is a path that ends with the attacker, behind hops in somebody else's name.
func (a *attacker) behind(id string) (*connection.Path, error) {
	manager := a.id.TrustDomain().ID().String() + "/manager"
	hops := []struct{ name, from, to string }{
		{"client", a.victim, manager},
		{"manager", manager, a.id.String()},
		{a.name, a.id.String(), a.server},
	}
	path := &connection.Path{Index: uint32(len(hops) - 1)}
	for _, hop := range hops {
		token, err := a.forge(hop.from, hop.to)
		if err != nil {
			return nil, err
		}
		path.PathSegments = append(path.PathSegments, &connection.PathSegment{
			Name: hop.name, Id: id + "-" + hop.name, Token: token,
			Expires: timestamppb.New(time.Now().Add(lifetime)),
		})
	}
	return path, nil
}

func wrongRole(ctx context.Context, a *attacker) (answer, error) {
	ctx, err := a.honestly(ctx)
	if err != nil {
		return answer{}, err
	}
	request := a.fresh()
	if request.Connection.Path, err = a.behind(request.Connection.GetId()); err != nil {
		return answer{}, err
	}
	request.Connection.Id = request.Connection.Path.PathSegments[request.Connection.Path.Index].Id
	if a.call == "close" {
		return a.close(ctx, request.Connection)
	}
	return a.request(ctx, request)
}

func forgedOwner(ctx context.Context, a *attacker) (answer, error) {
	ctx, err := a.honestly(ctx)
	if err != nil {
		return answer{}, err
	}
	first, err := a.forge(a.victim, a.id.String())
	if err != nil {
		return answer{}, err
	}
	path := &meta.Path{Index: 1, PathSegments: []*meta.Segment{{Token: first}, {}}}
	return a.register(ctx, path, []string{a.victim, a.id.String()})
}

func foreignRequest(ctx context.Context, a *attacker) (answer, error) {
	conn, err := a.stolenConnection()
	if err != nil {
		return answer{}, err
	}
	if ctx, err = a.honestly(ctx); err != nil {
		return answer{}, err
	}
	request := a.fresh()
	request.Connection = conn
	return a.request(ctx, request)
}

func foreignClose(ctx context.Context, a *attacker) (answer, error) {
	conn, err := a.stolenConnection()
	if err != nil {
		return answer{}, err
	}
	if ctx, err = a.honestly(ctx); err != nil {
		return answer{}, err
	}
	return a.close(ctx, conn)
}

func foreignMonitor(ctx context.Context, a *attacker) (answer, error) {
	conn, err := a.stolenConnection()
	if err != nil {
		return answer{}, err
	}
	if ctx, err = a.honestly(ctx); err != nil {
		return answer{}, err
	}
	return a.monitor(ctx, &connection.MonitorScopeSelector{PathSegments: []*connection.PathSegment{{Id: conn.GetId()}}})
}

func monitorAll(ctx context.Context, a *attacker) (answer, error) {
	ctx, err := a.honestly(ctx)
	if err != nil {
		return answer{}, err
	}
	return a.monitor(ctx, &connection.MonitorScopeSelector{})
}

func giantPath(ctx context.Context, a *attacker) (answer, error) {
	ctx, err := a.honestly(ctx)
	if err != nil {
		return answer{}, err
	}
	if a.call == "register" {
		path := &meta.Path{Index: uint32(a.count - 1)}
		for range a.count {
			path.PathSegments = append(path.PathSegments, &meta.Segment{Token: "x"})
		}
		return a.register(ctx, path, nil)
	}
	request := a.fresh()
	token, err := a.forge(a.id.String(), a.id.String())
	if err != nil {
		return answer{}, err
	}
	for len(request.Connection.Path.PathSegments) < a.count {
		request.Connection.Path.PathSegments = append(request.Connection.Path.PathSegments,
			&connection.PathSegment{Name: "hop", Id: "id", Token: token})
	}
	return a.request(ctx, request)
}

func indexBeyond(ctx context.Context, a *attacker) (answer, error) {
	ctx, err := a.honestly(ctx)
	if err != nil {
		return answer{}, err
	}
	if a.call == "register" {
		return a.register(ctx, &meta.Path{Index: 7, PathSegments: []*meta.Segment{{}}}, nil)
	}
	request := a.fresh()
	request.Connection.Path.Index = 7
	return a.request(ctx, request)
}

func oversizedMessage(ctx context.Context, a *attacker) (answer, error) {
	ctx, err := a.honestly(ctx)
	if err != nil {
		return answer{}, err
	}
	request := a.fresh()
	request.Connection.Labels = map[string]string{"big": strings.Repeat("x", oversized)}
	return a.request(ctx, request)
}
