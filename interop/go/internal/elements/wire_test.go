package elements_test

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"interop/internal/chain"
	"interop/internal/dial"
	"interop/internal/elements"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/identity"
	"interop/internal/mechanism"
	"interop/internal/policy"
	"interop/internal/serve"
	"interop/internal/testid"
)

// patience is how long anything may take on a busy machine.
const patience = 10 * time.Second

// mesh is client, hop and endpoint in one process, each with an identity, over unix sockets.
type mesh struct {
	client chain.Handler
	hop    *url.URL
	dial   dial.Options // the client's
	seen   *networkservice.NetworkServiceRequest
}

// look is an element that keeps what it sees.
type look struct {
	elements.Null
	mesh *mesh
}

func (l *look) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	l.mesh.seen = request
	return next.Request(ctx, request)
}

func start(t *testing.T) *mesh {
	t.Helper()
	domain, mesh := testid.New(t, "test"), &mesh{}
	generators := map[string]identity.Generator{}
	dials := map[string]dial.Options{}
	serving := func(name string, handler chain.Handler, monitor *elements.Monitor, source *testid.Source) *url.URL {
		to := &url.URL{Scheme: "unix", Path: filepath.Join(t.TempDir(), name)}
		server := serve.New(identity.Server(source))
		server.NetworkService(handler, monitor)
		if _, err := server.Start(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		return to
	}
	sources := map[string]*testid.Source{}
	for _, name := range []string{"nsc", "hop", "nse"} {
		sources[name] = domain.Source(t, "/"+name, time.Hour)
		generators[name] = identity.NewGenerator(sources[name], time.Minute)
		dials[name] = dial.Options{Timeout: patience, GRPC: identity.DialOptions(sources[name], generators[name])}
	}
	options := func(name string) elements.ServerOptions {
		return elements.ServerOptions{Name: name, Generator: generators[name], Policies: policy.MustLoad(policy.Server...)}
	}
	handler, monitor := elements.NewServer(t.Context(), options("nse"), &look{mesh: mesh},
		&elements.Mechanisms{Of: map[string]chain.Element{mechanism.Kernel: &elements.KernelServer{}}},
		&elements.SendFDServer{})
	nse := serving("nse", handler, monitor, sources["nse"])
	handler, monitor = elements.NewServer(t.Context(), options("hop"), &elements.RecvFDServer{}, &elements.SendFDServer{},
		&elements.ClientURL{To: nse},
		&elements.Connect{Client: elements.NewClient(t.Context(), elements.ClientOptions{Name: "hop", Dial: dials["hop"]},
			&elements.RecvFDClient{}, &elements.SendFDClient{})})
	mesh.hop, mesh.dial = serving("hop", handler, monitor, sources["hop"]), dials["nsc"]
	mesh.client = chain.New(
		&elements.UpdatePath{Name: "nsc"},
		chain.NewBeginClient(t.Context()),
		&elements.ClientURL{To: mesh.hop},
		&elements.Dial{Options: mesh.dial},
		&elements.Mechanisms{Client: true, Of: map[string]chain.Element{mechanism.Kernel: &elements.KernelClient{}}},
		&elements.SendFDClient{},
		&elements.AuthorizeClient{Policies: policy.MustLoad(policy.Client...)},
		&elements.KeepPath{},
		&elements.Call{},
	)
	return mesh
}

func (m *mesh) request(t *testing.T) *connection.Connection {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := m.client.Request(ctx, &networkservice.NetworkServiceRequest{
		Connection:           &connection.Connection{Id: "nsc-0", NetworkService: "svc"},
		MechanismPreferences: []*connection.Mechanism{{Cls: mechanism.Local, Type: mechanism.Kernel, Parameters: map[string]string{mechanism.Name: "nsm-1"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// names is the path's hops.
func names(conn *connection.Connection) string {
	var all []string
	for _, segment := range conn.GetPath().GetPathSegments() {
		all = append(all, segment.Name)
	}
	return strings.Join(all, " ")
}

func TestRequestOverTwoHops(t *testing.T) {
	mesh := start(t)
	first := mesh.request(t)
	if first.Id != "nsc-0" || first.Path.Index != 0 || names(first) != "nsc hop nse" {
		t.Errorf("not rewound: %s %d %s", first.Id, first.Path.Index, names(first))
	}
	for at, audience := range []string{"hop", "nse", "hop"} {
		segment := first.Path.PathSegments[at]
		if segment.Expires == nil || segment.Id == "" {
			t.Errorf("segment %d: %v", at, segment)
		}
		subject, err := identity.Subject(segment.Token)
		if err != nil || subject != "spiffe://test/"+segment.Name {
			t.Errorf("segment %d is from %s, %v (for %s)", at, subject, err, audience)
		}
	}
	// What the endpoint is asked for is the hop's name of the client's file, on the wire an inode.
	if asked := mesh.seen.GetMechanismPreferences()[0].Parameters[mechanism.InodeURL]; !strings.HasPrefix(asked, "inode://") {
		t.Errorf("the endpoint was told %s", asked)
	}
	if chosen := first.Mechanism.Parameters[mechanism.InodeURL]; chosen != mechanism.OwnNamespace {
		t.Errorf("the client was given %s", chosen)
	}
	second := mesh.request(t)
	for at, segment := range second.Path.PathSegments {
		if segment.Id != first.Path.PathSegments[at].Id {
			t.Errorf("segment %d has another id after a refresh", at)
		}
	}
	if err := mesh.client.Close(t.Context(), second); err != nil {
		t.Error(err)
	}
	if err := mesh.client.Close(t.Context(), second); err != nil {
		t.Errorf("close of what is closed: %v", err)
	}
}

func TestMonitorAtTheHop(t *testing.T) {
	mesh := start(t)
	conn, err := mesh.dial.Dial(t.Context(), mesh.hop)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watch := func(id string) grpc.ServerStreamingClient[connection.ConnectionEvent] {
		stream, err := connection.NewMonitorConnectionClient(conn).MonitorConnections(ctx, &connection.MonitorScopeSelector{
			PathSegments: []*connection.PathSegment{{Name: "nsc", Id: id}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	mine, others := watch("nsc-0"), watch("nsc-1")
	step := func(what string, want connection.ConnectionEventType, count int) {
		t.Helper()
		event, err := mine.Recv()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if event.Type != want || len(event.Connections) != count {
			t.Errorf("%s: %s with %d, want %s with %d", what, event.Type, len(event.Connections), want, count)
		}
	}
	step("first what there is: nothing", connection.ConnectionEventType_INITIAL_STATE_TRANSFER, 0)
	asked := mesh.request(t)
	step("a request", connection.ConnectionEventType_UPDATE, 1)
	if err := mesh.client.Close(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	step("a close", connection.ConnectionEventType_DELETE, 1)
	if event, err := others.Recv(); err != nil || event.Type != connection.ConnectionEventType_INITIAL_STATE_TRANSFER {
		t.Errorf("another's: %v, %v", event, err)
	}
	cancel()
	if event, err := others.Recv(); err == nil {
		t.Errorf("another's connection was told: %v", event)
	}
}

func TestServerRefuses(t *testing.T) {
	mesh := start(t)
	to, err := mesh.dial.Dial(t.Context(), mesh.hop)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = to.Close() }()
	client := networkservice.NewNetworkServiceClient(to)
	for name, conn := range map[string]*connection.Connection{
		"no path":                     {Id: "a"},
		"an index beyond the path":    {Id: "a", Path: &connection.Path{Index: 7, PathSegments: []*connection.PathSegment{{Name: "nsc", Id: "a"}}}},
		"another id than the segment": {Id: "b", Path: &connection.Path{PathSegments: []*connection.PathSegment{{Name: "nsc", Id: "a"}}}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if answer, err := client.Request(ctx, &networkservice.NetworkServiceRequest{Connection: conn}); err == nil {
			t.Errorf("%s: went through: %v", name, answer)
		}
		cancel()
	}
	if _, err := client.Close(t.Context(), &connection.Connection{Id: "unknown", Path: &connection.Path{
		PathSegments: []*connection.PathSegment{{Name: "nsc", Id: "unknown"}},
	}}); err != nil {
		t.Errorf("close of an unknown connection: %v", err)
	}
}
