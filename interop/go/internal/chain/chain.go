// Package chain runs requests through lists of small elements, and keeps what belongs to one
// connection: its order of events, its last answer and what elements remember of it.
//
// A role is one list of elements in request order. Client and server sides are elements alike.
package chain

import (
	"context"

	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
)

// Handler answers requests and closes.
type Handler interface {
	Request(ctx context.Context, request *networkservice.NetworkServiceRequest) (*connection.Connection, error)
	Close(ctx context.Context, conn *connection.Connection) error
}

// Element does its part and hands on to the next.
type Element interface {
	Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next Handler) (*connection.Connection, error)
	Close(ctx context.Context, conn *connection.Connection, next Handler) error
}

// New is the handler that runs these elements, first to last. Behind the last one a request is
// answered with its own connection.
func New(elements ...Element) Handler { return link(elements, tail{}) }

// Join is one element that runs these, first to last, and then goes on.
func Join(elements ...Element) Element { return joined(elements) }

type joined []Element

func (j joined) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next Handler) (*connection.Connection, error) {
	return link(j, next).Request(ctx, request)
}

func (j joined) Close(ctx context.Context, conn *connection.Connection, next Handler) error {
	return link(j, next).Close(ctx, conn)
}

func link(elements []Element, last Handler) Handler {
	handler := last
	for at := len(elements) - 1; at >= 0; at-- {
		handler = &linked{elements[at], handler}
	}
	return handler
}

type linked struct {
	element Element
	next    Handler
}

func (l *linked) Request(ctx context.Context, request *networkservice.NetworkServiceRequest) (*connection.Connection, error) {
	return l.element.Request(ctx, request, l.next)
}

func (l *linked) Close(ctx context.Context, conn *connection.Connection) error {
	return l.element.Close(ctx, conn, l.next)
}

type tail struct{}

func (tail) Request(_ context.Context, request *networkservice.NetworkServiceRequest) (*connection.Connection, error) {
	return request.GetConnection(), nil
}

func (tail) Close(context.Context, *connection.Connection) error { return nil }
