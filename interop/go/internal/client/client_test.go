package client

import (
	"context"
	"strings"
	"testing"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/connectioncontext"
	"interop/internal/gen/networkservice"
	"interop/internal/mechanism"
)

// hop gives the addresses that it is told to, and remembers what was excluded.
type hop struct {
	gives    string
	excluded string
	closed   int
}

func (h *hop) Request(_ context.Context, request *networkservice.NetworkServiceRequest, _ chain.Handler) (*connection.Connection, error) {
	ip := request.Connection.Context.IpContext
	h.excluded = strings.Join(ip.ExcludedPrefixes, " ")
	ip.SrcIpAddrs = strings.Fields(h.gives)
	ip.DstRoutes = []*connectioncontext.Route{{Prefix: h.gives}, {Prefix: "10.0.0.0/8"}}
	return request.Connection, nil
}

func (h *hop) Close(context.Context, *connection.Connection, chain.Handler) error {
	h.closed++
	return nil
}

func TestExcludedPrefixes(t *testing.T) {
	hop := &hop{}
	handler := chain.New(&ExcludedPrefixes{}, hop)
	open := map[string]*connection.Connection{}
	for _, step := range []struct {
		what, id, gives string
		want            string
		fails           bool
	}{
		{"the first excludes nothing", "a", "10.0.0.1/32", "", false},
		{"the second the first's", "b", "10.0.0.2/32", "10.0.0.1/32", false},
		{"a refresh not its own", "a", "10.0.0.1/32", "10.0.0.2/32", false},
		{"an address twice is refused", "c", "10.0.0.2/32", "10.0.0.1/32 10.0.0.2/32", true},
		{"b closes", "b", "", "", false},
		{"what is free may be given", "c", "10.0.0.2/32", "10.0.0.1/32", false},
	} {
		if step.gives == "" {
			if err := handler.Close(t.Context(), open[step.id]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		hop.gives, hop.closed = step.gives, 0
		conn := open[step.id]
		if conn == nil {
			conn = &connection.Connection{Id: step.id}
		}
		answer, err := handler.Request(t.Context(), &networkservice.NetworkServiceRequest{Connection: conn})
		if hop.excluded != step.want || (err != nil) != step.fails || (hop.closed > 0) != step.fails {
			t.Errorf("%s: excluded %q, want %q (%v, %d closed)", step.what, hop.excluded, step.want, err, hop.closed)
		}
		if err == nil {
			// The next request does not carry what this one excluded.
			answer.Context.IpContext.ExcludedPrefixes = nil
			open[step.id] = answer
		}
	}
}

func TestConstruct(t *testing.T) {
	ask := &mechanism.Ask{Service: "svc", Mechanism: &connection.Mechanism{Type: mechanism.Kernel}}
	standing := func(index uint32, id, kind string, state connection.State) *connection.Connection {
		return &connection.Connection{
			Id: "at the manager", NetworkServiceEndpointName: "nse", State: state,
			Mechanism: &connection.Mechanism{Type: kind},
			Path: &connection.Path{Index: index, PathSegments: []*connection.PathSegment{
				{Name: "nsc", Id: id}, {Name: "mgr", Id: "at the manager"},
			}},
		}
	}
	for name, row := range map[string]struct {
		known *connection.Connection
		taken bool
		nse   string
		state connection.State
	}{
		"its own":           {standing(1, "nsc-0", "KERNEL", connection.State_UP), true, "nse", connection.State_UP},
		"one that is down":  {standing(1, "nsc-0", "KERNEL", connection.State_DOWN), true, "", connection.State_RESELECT_REQUESTED},
		"another's":         {standing(1, "nsc-1", "KERNEL", connection.State_UP), false, "", connection.State_UP},
		"at another hop":    {standing(2, "nsc-0", "KERNEL", connection.State_UP), false, "", connection.State_UP},
		"another mechanism": {standing(1, "nsc-0", "MEMIF", connection.State_UP), false, "", connection.State_UP},
	} {
		t.Run(name, func(t *testing.T) {
			conn := construct("nsc-0", ask, map[string]*connection.Connection{"x": row.known}).Connection
			if taken := len(conn.GetPath().GetPathSegments()) == 2; taken != row.taken {
				t.Errorf("taken over: %v", taken)
			}
			if conn.Id != "nsc-0" || conn.GetPath().GetIndex() != 0 || conn.NetworkServiceEndpointName != row.nse || conn.State != row.state {
				t.Errorf("have %v", conn)
			}
		})
	}
}
