package chain

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"google.golang.org/protobuf/proto"

	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
)

var errNoID = errors.New("begin: the connection has no id")

// lives is the connections of one begin element.
type lives struct {
	root  context.Context
	mutex sync.Mutex
	byID  map[string]*Life
}

func (l *lives) find(id string) *Life {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.byID[id]
}

func (l *lives) findOrStart(ctx context.Context, id string, next Handler) *Life {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if life := l.byID[id]; life != nil {
		return life
	}
	life := newLife(l.root, ctx, next, func() {
		l.mutex.Lock()
		defer l.mutex.Unlock()
		delete(l.byID, id)
	})
	l.byID[id] = life
	return life
}

// enter waits for the connection's turn; a life that ended meanwhile is begun anew.
func (l *lives) enter(ctx context.Context, id string, next Handler) *Life {
	for {
		life := l.findOrStart(ctx, id, next)
		life.turn.Lock()
		if !life.over {
			return life
		}
		life.turn.Unlock()
	}
}

// closeLast closes a connection as it was last answered. One that is not known is closed.
func (l *lives) closeLast(ctx context.Context, id string, next Handler) error {
	life := l.find(id)
	if life == nil {
		return nil
	}
	life.turn.Lock()
	defer life.turn.Unlock()
	if !life.established || life.over {
		return nil
	}
	err := next.Close(context.WithValue(ctx, lifeKey{}, life), proto.CloneOf(life.request.Connection))
	life.finish()
	return err
}

// BeginServer lets one event of a connection in at a time.
type BeginServer struct{ lives }

// NewBeginServer makes one; events of its own end with the context.
func NewBeginServer(root context.Context) *BeginServer {
	return &BeginServer{lives{root: root, byID: map[string]*Life{}}}
}

// Request closes the old connection first where the caller wants another endpoint.
func (b *BeginServer) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next Handler) (*connection.Connection, error) {
	if LifeOf(ctx) != nil {
		return next.Request(ctx, request)
	}
	id := request.GetConnection().GetId()
	if id == "" {
		return nil, errNoID
	}
	life := b.enter(ctx, id, next)
	defer life.turn.Unlock()
	if life.established && request.Connection.State == connection.State_RESELECT_REQUESTED {
		within, cancel := life.within()
		if err := next.Close(within, proto.CloneOf(life.request.Connection)); err != nil {
			slog.Warn("close before another endpoint is selected", "id", id, "err", err)
		}
		cancel()
		life.established = false
	}
	conn, err := next.Request(context.WithValue(ctx, lifeKey{}, life), request)
	if err != nil {
		if !life.established {
			life.finish()
		}
		return nil, err
	}
	conn.State = connection.State_UP
	life.keep(ctx, request, conn)
	return conn, nil
}

// Close closes the connection as it was last answered.
func (b *BeginServer) Close(ctx context.Context, conn *connection.Connection, next Handler) error {
	if LifeOf(ctx) != nil {
		return next.Close(ctx, conn)
	}
	return b.closeLast(ctx, conn.GetId(), next)
}

// BeginClient is the same for who asks: a request again is the last answer with what the caller
// has changed of it.
type BeginClient struct{ lives }

// NewBeginClient makes one; events of its own end with the context.
func NewBeginClient(root context.Context) *BeginClient {
	return &BeginClient{lives{root: root, byID: map[string]*Life{}}}
}

// Request merges, asks and remembers.
func (b *BeginClient) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next Handler) (*connection.Connection, error) {
	if LifeOf(ctx) != nil {
		return next.Request(ctx, request)
	}
	id := request.GetConnection().GetId()
	if id == "" {
		return nil, errNoID
	}
	life := b.enter(ctx, id, next)
	defer life.turn.Unlock()
	if life.request != nil {
		request.Connection = merge(life.returned, request.Connection, life.request.Connection)
	}
	conn, err := next.Request(context.WithValue(ctx, lifeKey{}, life), request)
	if err != nil {
		if !life.established {
			life.finish()
		}
		return nil, err
	}
	life.keep(ctx, request, conn)
	return conn, nil
}

// Close closes the connection as it was last answered.
func (b *BeginClient) Close(ctx context.Context, conn *connection.Connection, next Handler) error {
	if LifeOf(ctx) != nil {
		return next.Close(ctx, conn)
	}
	return b.closeLast(ctx, conn.GetId(), next)
}
