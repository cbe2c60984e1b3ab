package ipam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/connectioncontext"
	"interop/internal/gen/networkservice"
)

// endpoint is a chain that hands out from these groups.
func endpoint(t *testing.T, groups string, more ...chain.Element) chain.Handler {
	t.Helper()
	parsed, err := ParseGroups(groups)
	if err != nil {
		t.Fatal(err)
	}
	return chain.New(slices.Concat([]chain.Element{chain.NewBeginServer(t.Context())}, New(parsed), more)...)
}

func request(id string, ip *connectioncontext.IPContext) *networkservice.NetworkServiceRequest {
	return &networkservice.NetworkServiceRequest{Connection: &connection.Connection{
		Id:      id,
		Context: &connectioncontext.ConnectionContext{IpContext: ip},
	}}
}

// pair writes `dst src`, with both sides' routes if they do not lead to the other's end.
func pair(ip *connectioncontext.IPContext) string {
	text := fmt.Sprintf("%s %s", strings.Join(ip.DstIpAddrs, "+"), strings.Join(ip.SrcIpAddrs, "+"))
	for at, route := range ip.SrcRoutes {
		if at >= len(ip.DstIpAddrs) || route.Prefix != ip.DstIpAddrs[at] {
			text += " via " + route.Prefix
		}
	}
	for at, route := range ip.DstRoutes {
		if at >= len(ip.SrcIpAddrs) || route.Prefix != ip.SrcIpAddrs[at] {
			text += " back " + route.Prefix
		}
	}
	return text
}

func TestPairs(t *testing.T) {
	for name, row := range map[string]struct {
		groups   string
		excluded string
		brought  string // dst src
		want     []string
	}{
		"the network's own address is used": {"172.16.1.100/31", "", "", []string{"172.16.1.100/32 172.16.1.101/32", "FULL"}},
		"the lowest first":                  {"10.0.0.0/24", "", "", []string{"10.0.0.0/32 10.0.0.1/32", "10.0.0.2/32 10.0.0.3/32"}},
		"host bits do not count":            {"10.0.0.77/24", "", "", []string{"10.0.0.0/32 10.0.0.1/32"}},
		"excluded prefixes":                 {"10.0.0.0/24", "10.0.0.0/25,10.0.0.129/32", "", []string{"10.0.0.128/32 10.0.0.130/32"}},
		"all excluded":                      {"10.0.0.0/24", "10.0.0.0/8", "", []string{"FULL"}},
		"alternatives":                      {"[10.0.0.0/31,10.1.0.0/31]", "", "", []string{"10.0.0.0/32 10.0.0.1/32", "10.1.0.0/32 10.1.0.1/32", "FULL"}},
		"two groups":                        {"10.0.0.0/24,fd00::/64", "", "", []string{"10.0.0.0/32+fd00::/128 10.0.0.1/32+fd00::1/128"}},
		"brought addresses are kept":        {"10.0.0.0/24", "", "10.0.0.8/32 10.0.0.9/32", []string{"10.0.0.8/32 10.0.0.9/32"}},
		"only one of them is not":           {"10.0.0.0/24", "", "10.0.0.8/32 10.9.0.9/32", []string{"10.0.0.8/32+10.0.0.0/32 10.9.0.9/32+10.0.0.1/32 via 10.0.0.0/32 back 10.0.0.1/32"}},
	} {
		t.Run(name, func(t *testing.T) {
			handler := endpoint(t, row.groups)
			for at, want := range row.want {
				ip := &connectioncontext.IPContext{}
				if row.excluded != "" {
					ip.ExcludedPrefixes = strings.Split(row.excluded, ",")
				}
				if dst, src, ok := strings.Cut(row.brought, " "); ok {
					ip.DstIpAddrs, ip.SrcIpAddrs = []string{dst}, []string{src}
				}
				conn, err := handler.Request(t.Context(), request(fmt.Sprint("c", at), ip))
				have := "FULL"
				if err == nil {
					have = pair(conn.Context.IpContext)
				}
				if have != want {
					t.Errorf("connection %d: have %s, want %s (%v)", at, have, want, err)
				}
			}
		})
	}
}

// broken is an element that fails when it is told to.
type broken struct {
	chain.Element
	now bool
}

func (b *broken) Request(_ context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	if b.now {
		return nil, errors.New("broken")
	}
	return request.Connection, nil
}

func (b *broken) Close(context.Context, *connection.Connection, chain.Handler) error { return nil }

func TestLives(t *testing.T) {
	behind := &broken{}
	handler := endpoint(t, "10.0.0.0/30", behind)
	ctx := context.Background()
	ask := func(id string, ip *connectioncontext.IPContext) string {
		t.Helper()
		conn, err := handler.Request(ctx, request(id, ip))
		if err != nil {
			return "FULL"
		}
		return pair(conn.Context.IpContext)
	}
	steps := []struct {
		what string
		do   func() string
		want string
	}{
		{"what is refused behind keeps nothing", func() string {
			behind.now = true
			defer func() { behind.now = false }()
			return ask("x", nil)
		}, "FULL"},
		{"what comes with one address that is not free keeps none of what it brought", func() string {
			return ask("y", &connectioncontext.IPContext{DstIpAddrs: []string{"10.0.0.3/32"}, SrcIpAddrs: []string{"10.9.0.1/32"}})
		}, "10.0.0.3/32+10.0.0.0/32 10.9.0.1/32+10.0.0.1/32 via 10.0.0.0/32 back 10.0.0.1/32"},
		{"so another can have it", func() string {
			return ask("z", &connectioncontext.IPContext{DstIpAddrs: []string{"10.0.0.3/32"}, SrcIpAddrs: []string{"10.0.0.2/32"}})
		}, "10.0.0.3/32 10.0.0.2/32"},
		{"y and z close", func() string {
			return fmt.Sprint(handler.Close(ctx, &connection.Connection{Id: "y"}), handler.Close(ctx, &connection.Connection{Id: "z"}))
		}, "<nil> <nil>"},
		{"a connects", func() string { return ask("a", nil) }, "10.0.0.0/32 10.0.0.1/32"},
		{"a refreshes", func() string { return ask("a", nil) }, "10.0.0.0/32 10.0.0.1/32"},
		{"b connects", func() string { return ask("b", nil) }, "10.0.0.2/32 10.0.0.3/32"},
		{"c finds none", func() string { return ask("c", nil) }, "FULL"},
		{"a closes", func() string { return fmt.Sprint(handler.Close(ctx, &connection.Connection{Id: "a"})) }, "<nil>"},
		{"c connects", func() string { return ask("c", nil) }, "10.0.0.0/32 10.0.0.1/32"},
		{"c's are excluded", func() string {
			ip := &connectioncontext.IPContext{
				DstIpAddrs: []string{"10.0.0.0/32"}, SrcIpAddrs: []string{"10.0.0.1/32"},
				ExcludedPrefixes: []string{"10.0.0.0/31"},
			}
			return ask("c", ip)
		}, "FULL"},
	}
	for _, step := range steps {
		if have := step.do(); have != step.want {
			t.Errorf("%s: have %s, want %s", step.what, have, step.want)
		}
	}
}

func TestParseGroups(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8":                   "[[10.0.0.0/8]]",
		"10.0.0.0/8, fd00::/8":         "[[10.0.0.0/8] [fd00::/8]]",
		"[10.0.0.0/8,11.0.0.0/8]":      "[[10.0.0.0/8 11.0.0.0/8]]",
		"[10.0.0.0/8],[fd00::/8]":      "[[10.0.0.0/8] [fd00::/8]]",
		"[10.0.0.0/8,11.0.0.0/8],::/0": "[[10.0.0.0/8 11.0.0.0/8] [::/0]]",
		"[10.0.0.0/8":                  "",
		"10.0.0.0/8]":                  "",
		"[[10.0.0.0/8]]x":              "",
		"[10.0.0.0/8,[11.0.0.0/8]":     "",
		"10.0.0.0":                     "",
		"":                             "",
	} {
		groups, err := ParseGroups(text)
		have := fmt.Sprint(groups)
		if err != nil {
			have = ""
		}
		if have != want {
			t.Errorf("%q: have %s, want %s (%v)", text, have, want, err)
		}
	}
}

func TestStrict(t *testing.T) {
	groups, err := ParseGroups("10.0.0.0/29")
	if err != nil {
		t.Fatal(err)
	}
	handler := chain.New(append([]chain.Element{chain.NewBeginServer(t.Context())}, NewStrict(groups)...)...)
	for _, step := range []struct {
		what, id, dst, src string
		want               string
	}{
		{"addresses of another endpoint are struck out", "a", "10.9.0.0/32", "10.9.0.1/32", "10.0.0.0/32 10.0.0.1/32"},
		{"on a refresh the own come back", "a", "10.0.0.0/32", "10.0.0.1/32", "10.0.0.0/32 10.0.0.1/32"},
		{"those of another connection too", "b", "10.0.0.0/32", "10.0.0.1/32", "10.0.0.2/32 10.0.0.3/32"},
		{"free ones are kept", "c", "10.0.0.6/32", "10.0.0.7/32", "10.0.0.6/32 10.0.0.7/32"},
	} {
		ip := &connectioncontext.IPContext{
			DstIpAddrs: []string{step.dst}, SrcIpAddrs: []string{step.src},
			SrcRoutes: []*connectioncontext.Route{{Prefix: step.dst}},
			DstRoutes: []*connectioncontext.Route{{Prefix: step.src}},
		}
		conn, err := handler.Request(t.Context(), request(step.id, ip))
		if err != nil {
			t.Fatal(err)
		}
		if have := pair(conn.Context.IpContext); have != step.want {
			t.Errorf("%s: have %s, want %s", step.what, have, step.want)
		}
	}
}
