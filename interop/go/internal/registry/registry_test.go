package registry

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/gen/registry"
	"interop/internal/identity"
	"interop/internal/meta"
	"interop/internal/policy"
	"interop/internal/serve"
	"interop/internal/testid"
)

// patience is the most that a call may take on a busy machine.
const patience = 20 * time.Second

// stand starts a registry and returns what connects to it as somebody.
func stand(t *testing.T, expiration time.Duration) func(path string) *grpc.ClientConn {
	t.Helper()
	domain := testid.New(t, "test")
	own := domain.Source(t, "/registry", time.Hour)
	generator := identity.NewGenerator(own, time.Hour)
	policies := policy.MustLoad(policy.RegistryServer...)
	server := serve.New(identity.Server(own))
	server.Registry(Services(generator, policies), Endpoints(t.Context(), generator, policies, expiration))
	to := &url.URL{Scheme: "unix", Path: filepath.Join(t.TempDir(), "s")}
	if _, err := server.Start(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	return func(path string) *grpc.ClientConn {
		source := domain.Source(t, path, time.Hour)
		options := identity.DialOptions(source, identity.NewGenerator(source, time.Hour))
		conn, err := grpc.NewClient(identity.Target(to), options...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

// call is a context with the path in its metadata.
func call(t *testing.T, path *meta.Path) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	if path == nil {
		return ctx
	}
	ctx, err := meta.OutgoingPath(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

func TestPathGoesInAndComesBack(t *testing.T) {
	conn := stand(t, time.Minute)("/a")
	client := registry.NewNetworkServiceEndpointRegistryClient(conn)
	path := &meta.Path{}
	// The first time and a refresh.
	for range 2 {
		var header metadata.MD
		endpoint, err := client.Register(call(t, path), &registry.NetworkServiceEndpoint{Name: "e"}, grpc.Header(&header))
		if err != nil {
			t.Fatal(err)
		}
		if path, err = meta.HeaderPath(header); err != nil {
			t.Fatal(err)
		}
		if path.Index != 0 || len(path.PathSegments) != 2 {
			t.Errorf("the path came back as %+v", path)
		}
		if got := strings.Join(endpoint.GetPathIds(), " "); got != "spiffe://test/a spiffe://test/registry" {
			t.Errorf("path IDs %s", got)
		}
		if left := time.Until(endpoint.GetExpirationTime().AsTime()); left > time.Minute || left < time.Second {
			t.Errorf("expires in %s", left)
		}
	}
}

func TestNames(t *testing.T) {
	as := stand(t, time.Minute)
	a, b := registry.NewNetworkServiceRegistryClient(as("/a")), registry.NewNetworkServiceRegistryClient(as("/b"))
	register := func(client registry.NetworkServiceRegistryClient) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := client.Register(ctx, &registry.NetworkService{Name: "s"})
			return err
		}
	}
	unregister := func(client registry.NetworkServiceRegistryClient) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := client.Unregister(ctx, &registry.NetworkService{Name: "s"})
			return err
		}
	}
	for _, row := range []struct {
		name string
		path *meta.Path
		do   func(context.Context) error
		want codes.Code
	}{
		{"no path at all", nil, register(a), codes.PermissionDenied},
		{"an index beyond the path", &meta.Path{Index: 1, PathSegments: []*meta.Segment{{}}}, register(a), codes.Unknown},
		{"the first", &meta.Path{}, register(a), codes.OK},
		{"again", &meta.Path{}, register(a), codes.OK},
		{"somebody else", &meta.Path{}, register(b), codes.PermissionDenied},
		{"somebody else takes it out", &meta.Path{}, unregister(b), codes.PermissionDenied},
		{"the owner takes it out", &meta.Path{}, unregister(a), codes.OK},
		{"free again", &meta.Path{}, register(b), codes.OK},
	} {
		if err := row.do(call(t, row.path)); status.Code(err) != row.want {
			t.Errorf("%s: got %v, want %v", row.name, err, row.want)
		}
	}
}

func TestWatchSeesComeAndExpire(t *testing.T) {
	conn := stand(t, 2*time.Second)("/a")
	client := registry.NewNetworkServiceEndpointRegistryClient(conn)
	watch, err := client.Find(call(t, nil), &registry.NetworkServiceEndpointQuery{
		NetworkServiceEndpoint: &registry.NetworkServiceEndpoint{NetworkServiceNames: []string{"s"}},
		Watch:                  true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := call(t, &meta.Path{})
	for _, names := range [][]string{{"other"}, {"s", "other"}} {
		endpoint := &registry.NetworkServiceEndpoint{Name: names[0], NetworkServiceNames: names}
		// No deadline: the whole time counts until it expires.
		if _, err := client.Register(context.WithoutCancel(ctx), endpoint); err != nil {
			t.Fatal(err)
		}
	}
	for _, deleted := range []bool{false, true} {
		got, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.GetDeleted() != deleted || got.GetNetworkServiceEndpoint().GetName() != "s" {
			t.Errorf("got %v", got)
		}
	}
}

func TestMatchEndpoint(t *testing.T) {
	is := &registry.NetworkServiceEndpoint{
		Name:                 "e",
		NetworkServiceNames:  []string{"s", "t"},
		NetworkServiceLabels: map[string]*registry.NetworkServiceLabels{"s": {Labels: map[string]string{"a": "1", "b": "2"}}},
		Url:                  "tcp://10.0.0.1:5001",
		ExpirationTime:       &timestamppb.Timestamp{Seconds: 7, Nanos: 5},
	}
	labels := func(service, key, value string) *registry.NetworkServiceEndpoint {
		return &registry.NetworkServiceEndpoint{NetworkServiceLabels: map[string]*registry.NetworkServiceLabels{
			service: {Labels: map[string]string{key: value}},
		}}
	}
	for _, row := range []struct {
		name  string
		query *registry.NetworkServiceEndpoint
		want  bool
	}{
		{"anything", &registry.NetworkServiceEndpoint{}, true},
		{"the name", &registry.NetworkServiceEndpoint{Name: "e"}, true},
		{"the start of a name", &registry.NetworkServiceEndpoint{Name: "e2"}, false},
		{"one service", &registry.NetworkServiceEndpoint{NetworkServiceNames: []string{"t"}}, true},
		{"one too many", &registry.NetworkServiceEndpoint{NetworkServiceNames: []string{"t", "u"}}, false},
		{"a part of the URL", &registry.NetworkServiceEndpoint{Url: "tcp://10.0.0.1:500"}, true},
		{"another URL", &registry.NetworkServiceEndpoint{Url: "tcp://10.0.0.2"}, false},
		{"the second it expires", &registry.NetworkServiceEndpoint{ExpirationTime: &timestamppb.Timestamp{Seconds: 7}}, true},
		{"another second", &registry.NetworkServiceEndpoint{ExpirationTime: &timestamppb.Timestamp{Seconds: 8}}, false},
		{"a label", labels("s", "a", "1"), true},
		{"another value", labels("s", "a", "2"), false},
		{"a label of another service", labels("t", "a", "1"), false},
	} {
		if got := MatchEndpoint(row.query, is); got != row.want {
			t.Errorf("%s: got %v", row.name, got)
		}
	}
}
