package chain

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
)

// Life is one connection's: one event at a time, what was last asked and answered, and what
// elements keep. It ends with the connection's close, or with a first request that failed.
type Life struct {
	turn    sync.Mutex // held while an event runs
	chain   Handler    // what is behind begin
	root    context.Context
	timeout time.Duration

	established bool
	over        bool
	end         func()
	values      context.Context // of the last request
	request     *networkservice.NetworkServiceRequest
	returned    *connection.Connection

	mutex sync.Mutex
	store map[any]any
}

type lifeKey struct{}

// LifeOf is the life of the connection whose event runs in this context, or nil.
func LifeOf(ctx context.Context) *Life {
	life, _ := ctx.Value(lifeKey{}).(*Life)
	return life
}

func newLife(root, ctx context.Context, next Handler, end func()) *Life {
	life := &Life{chain: next, root: root, end: end, values: ctx, store: map[any]any{}}
	if deadline, ok := ctx.Deadline(); ok {
		life.timeout = time.Until(deadline)
	}
	return life
}

// State is what an element keeps of the context's connection: made at first use, one for each
// key (an element that may stand twice in a chain is its own key). Outside of a life it is
// forgotten at once.
func State[T any](ctx context.Context, key any) *T {
	life := LifeOf(ctx)
	if life == nil {
		return new(T)
	}
	life.mutex.Lock()
	defer life.mutex.Unlock()
	if state, ok := life.store[key].(*T); ok {
		return state
	}
	state := new(T)
	life.store[key] = state
	return state
}

// within is the context of an event that starts in this process: it has the values of the last
// request, and as much time as the first one had.
func (l *Life) within() (context.Context, context.CancelFunc) {
	ctx := context.WithValue(context.WithoutCancel(l.values), lifeKey{}, l)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.root, cancel)
	done := func() { stop(); cancel() }
	if l.timeout <= 0 {
		return ctx, done
	}
	ctx, expire := context.WithTimeout(ctx, l.timeout)
	return ctx, func() { expire(); done() }
}

// Postpone is a context for undoing what a request has done: the values of this one, as much
// time again, and not ended with it.
func Postpone(ctx context.Context) (context.Context, context.CancelFunc) {
	after := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		// At least a little: the request may have failed because its time was over.
		return context.WithTimeout(after, max(time.Until(deadline), minPostponed))
	}
	return context.WithCancel(after)
}

// minPostponed is what undoing gets at least: some round trips on a busy machine.
const minPostponed = time.Second

// Rerequest requests the connection again as it was last answered, from behind begin, unless
// `unless` has ended. To reselect is to close it first and ask for another endpoint. There is no
// answer, and no error, for a connection that is closed.
func (l *Life) Rerequest(unless context.Context, reselect bool) (*connection.Connection, error) {
	l.turn.Lock()
	defer l.turn.Unlock()
	if !l.established || unless.Err() != nil {
		return nil, unless.Err()
	}
	request := proto.CloneOf(l.request)
	if reselect {
		ctx, cancel := l.within()
		_ = l.chain.Close(ctx, proto.CloneOf(request.Connection))
		cancel()
		request.Connection.Mechanism = nil
		request.Connection.NetworkServiceEndpointName = ""
		request.Connection.State = connection.State_RESELECT_REQUESTED
	}
	ctx, cancel := l.within()
	defer cancel()
	conn, err := l.chain.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	l.request.Connection = proto.CloneOf(conn)
	l.request.Connection.State = connection.State_UP
	return proto.CloneOf(conn), nil
}

// Close closes the connection from behind begin, unless `unless` has ended.
func (l *Life) Close(unless context.Context) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	if l.request == nil || l.over || unless.Err() != nil {
		return unless.Err()
	}
	ctx, cancel := l.within()
	defer cancel()
	err := l.chain.Close(ctx, proto.CloneOf(l.request.Connection))
	l.finish()
	return err
}

// keep remembers an answered request.
func (l *Life) keep(ctx context.Context, request *networkservice.NetworkServiceRequest, conn *connection.Connection) {
	l.request = proto.CloneOf(request)
	l.request.Connection = proto.CloneOf(conn)
	l.returned = proto.CloneOf(conn)
	l.established = true
	l.values = ctx
}

func (l *Life) finish() {
	l.established, l.over = false, true
	l.end()
}
