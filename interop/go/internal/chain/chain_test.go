package chain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"interop/internal/gen/connection"
	"interop/internal/gen/connectioncontext"
	"interop/internal/gen/networkservice"
)

// hop writes down what comes to it, and fails when it is told to.
type hop struct {
	mutex sync.Mutex
	calls []string
	fail  bool
	busy  bool
}

var errHop = errors.New("hop fails")

func (h *hop) note(ctx context.Context, what string, conn *connection.Connection) error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	State[int](ctx, h)
	h.calls = append(h.calls, fmt.Sprintf("%s %s %s", what, conn.GetNetworkServiceEndpointName(), conn.GetState()))
	if h.fail {
		return errHop
	}
	return nil
}

func (h *hop) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next Handler) (*connection.Connection, error) {
	h.mutex.Lock()
	if h.busy {
		panic("two events of one connection at once")
	}
	h.busy = true
	h.mutex.Unlock()
	defer func() { h.mutex.Lock(); h.busy = false; h.mutex.Unlock() }()
	if err := h.note(ctx, "request", request.Connection); err != nil {
		return nil, err
	}
	*State[int](ctx, h)++
	request.Connection.NetworkServiceEndpointName = fmt.Sprint("nse", *State[int](ctx, h))
	return request.Connection, nil
}

func (h *hop) Close(ctx context.Context, conn *connection.Connection, next Handler) error {
	return h.note(ctx, "close", conn)
}

func (h *hop) take() string {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	taken := strings.Join(h.calls, ", ")
	h.calls = nil
	return taken
}

func asked(name string, state connection.State) *networkservice.NetworkServiceRequest {
	return &networkservice.NetworkServiceRequest{Connection: &connection.Connection{
		Id: "id", NetworkServiceEndpointName: name, State: state,
	}}
}

func TestBeginServer(t *testing.T) {
	hop := &hop{}
	handler := New(NewBeginServer(t.Context()), hop)
	request := func(state connection.State) error {
		_, err := handler.Request(t.Context(), asked("x", state))
		return err
	}
	closed := func(name string) error {
		return handler.Close(t.Context(), &connection.Connection{Id: "id", NetworkServiceEndpointName: name})
	}
	const up, reselect = connection.State_UP, connection.State_RESELECT_REQUESTED
	for _, step := range []struct {
		what string
		fail bool
		do   func() error
		want string
		err  bool
	}{
		{"a close of what is not known is done", false, func() error { return closed("x") }, "", false},
		{"a first request that fails is forgotten", true, func() error { return request(up) }, "request x UP", true},
		{"so there is nothing to close", false, func() error { return closed("x") }, "", false},
		{"reselect of what is not known closes nothing", false, func() error { return request(reselect) }, "request x RESELECT_REQUESTED", false},
		{"a refresh", false, func() error { return request(up) }, "request x UP", false},
		{"a refresh that fails", true, func() error { return request(up) }, "request x UP", true},
		{"is remembered as it was before", false, func() error { return request(reselect) }, "close nse2 UP, request x RESELECT_REQUESTED", false},
		{"a close is of what was answered", false, func() error { return closed("other") }, "close nse3 UP", false},
		{"and ends the connection", false, func() error { return closed("x") }, "", false},
		{"with what elements remember", false, func() error { return request(up) }, "request x UP", false},
		{"as the last close shows", false, func() error { return closed("x") }, "close nse1 UP", false},
		{"one more", false, func() error { return request(up) }, "request x UP", false},
		{"a reselect that fails ends the connection", true, func() error { return request(reselect) }, "close nse1 UP, request x RESELECT_REQUESTED", true},
		{"there is nothing left of it", false, func() error { return closed("x") }, "", false},
	} {
		hop.fail = step.fail
		err := step.do()
		if have := hop.take(); have != step.want || (err != nil) != step.err {
			t.Errorf("%s: have %q (%v), want %q", step.what, have, err, step.want)
		}
	}
	if _, err := handler.Request(t.Context(), &networkservice.NetworkServiceRequest{}); err == nil {
		t.Error("a request without an id went through")
	}
}

func TestRerequest(t *testing.T) {
	hop := &hop{}
	var life *Life
	catch := elementFunc(func(ctx context.Context) { life = LifeOf(ctx) })
	handler := New(NewBeginClient(t.Context()), catch, hop)
	if _, err := handler.Request(t.Context(), asked("", connection.State_UP)); err != nil {
		t.Fatal(err)
	}
	hop.take()
	ended, end := context.WithCancel(t.Context())
	end()
	for _, step := range []struct {
		what     string
		unless   context.Context
		reselect bool
		want     string
	}{
		{"a refresh asks with the answer", t.Context(), false, "request nse1 UP"},
		{"again", t.Context(), false, "request nse2 UP"},
		{"to reselect is to close and to ask for another", t.Context(), true, "close nse3 UP, request  RESELECT_REQUESTED"},
		{"what is not wanted any more is not done", ended, false, ""},
	} {
		_, _ = life.Rerequest(step.unless, step.reselect)
		if have := hop.take(); have != step.want {
			t.Errorf("%s: have %q, want %q", step.what, have, step.want)
		}
	}
	if err := life.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if conn, err := life.Rerequest(t.Context(), false); conn != nil || err != nil {
		t.Errorf("after the close: %v, %v", conn, err)
	}
	if have := hop.take(); have != "close nse4 UP" {
		t.Errorf("close: %q", have)
	}
}

// elementFunc is an element that looks at contexts.
type elementFunc func(context.Context)

func (f elementFunc) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next Handler) (*connection.Connection, error) {
	f(ctx)
	return next.Request(ctx, request)
}

func (f elementFunc) Close(ctx context.Context, conn *connection.Connection, next Handler) error {
	return next.Close(ctx, conn)
}

func TestOneAtATime(t *testing.T) {
	hop := &hop{}
	slow := elementFunc(func(context.Context) { time.Sleep(time.Millisecond) })
	handler := New(NewBeginServer(t.Context()), hop, slow)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, _ = handler.Request(context.Background(), asked("x", connection.State_UP))
			_ = handler.Close(context.Background(), &connection.Connection{Id: "id"})
		})
	}
	all.Wait()
}

func TestMerge(t *testing.T) {
	ip := func(src string) *connectioncontext.ConnectionContext {
		return &connectioncontext.ConnectionContext{IpContext: &connectioncontext.IPContext{SrcIpAddrs: []string{src}}}
	}
	extra := func(pairs map[string]string) *connectioncontext.ConnectionContext {
		return &connectioncontext.ConnectionContext{ExtraContext: pairs}
	}
	type conn = connection.Connection
	for name, row := range map[string]struct{ returned, asked, now, want *conn }{
		"the first":                 {nil, &conn{Id: "a"}, nil, &conn{Id: "a"}},
		"nothing changed":           {&conn{Payload: "IP"}, &conn{Payload: "IP"}, &conn{Payload: "ETH"}, &conn{Payload: "ETH"}},
		"an endpoint is asked for":  {&conn{NetworkServiceEndpointName: "a"}, &conn{NetworkServiceEndpointName: "b"}, &conn{NetworkServiceEndpointName: "c"}, &conn{NetworkServiceEndpointName: "b"}},
		"the endpoint has moved":    {&conn{NetworkServiceEndpointName: "a"}, &conn{NetworkServiceEndpointName: "a"}, &conn{NetworkServiceEndpointName: "c"}, &conn{NetworkServiceEndpointName: "c"}},
		"labels are dropped":        {&conn{}, &conn{Labels: map[string]string{"a": "b"}}, &conn{}, &conn{}},
		"the context is asked for":  {&conn{Context: ip("a")}, &conn{Context: ip("b")}, &conn{Context: ip("c")}, &conn{Context: ip("b")}},
		"the context has moved":     {&conn{Context: ip("a")}, &conn{Context: ip("a")}, &conn{Context: ip("c")}, &conn{Context: ip("c")}},
		"extra: changed and gone":   {&conn{Context: extra(map[string]string{"a": "1", "b": "1"})}, &conn{Context: extra(map[string]string{"a": "2"})}, &conn{Context: extra(map[string]string{"a": "1", "b": "1", "c": "1"})}, &conn{Context: extra(map[string]string{"a": "2", "c": "1"})}},
		"extra: what is new is not": {&conn{Context: extra(map[string]string{"a": "1"})}, &conn{Context: extra(map[string]string{"a": "1", "n": "1"})}, &conn{Context: extra(map[string]string{"a": "1"})}, &conn{Context: extra(map[string]string{"a": "1"})}},
	} {
		if have := merge(row.returned, row.asked, row.now); !proto.Equal(have, row.want) {
			t.Errorf("%s: have %v, want %v", name, have, row.want)
		}
	}
}
