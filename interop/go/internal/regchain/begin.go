package regchain

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"interop/internal/gen/registry"
	"interop/internal/meta"
)

var errNoName = errors.New("begin: the name of a service or endpoint must not be empty")

// Life is one registration's: one event at a time, what is registered, and what elements keep.
type Life[E Entry] struct {
	turn    sync.Mutex // held while an event runs
	chain   Handler[E] // what is behind begin
	root    context.Context
	timeout time.Duration

	established bool
	over        bool
	end         func()
	values      context.Context // of the last registration
	entry       E

	mutex sync.Mutex
	store map[any]any
}

type lifeKey[E Entry] struct{}

// LifeOf is the life of the registration whose event runs in this context, or nil.
func LifeOf[E Entry](ctx context.Context) *Life[E] {
	life, _ := ctx.Value(lifeKey[E]{}).(*Life[E])
	return life
}

// State is what an element keeps of the context's registration: made at first use, one for each
// key. Outside of a life it is forgotten at once.
func State[T any, E Entry](ctx context.Context, key any) *T {
	life := LifeOf[E](ctx)
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

// within is the context of an event that starts in this process.
func (l *Life[E]) within() (context.Context, context.CancelFunc) {
	ctx := context.WithValue(context.WithoutCancel(l.values), lifeKey[E]{}, l)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.root, cancel)
	if l.timeout <= 0 {
		return ctx, func() { stop(); cancel() }
	}
	ctx, expire := context.WithTimeout(ctx, l.timeout)
	return ctx, func() { expire(); stop(); cancel() }
}

// Reregister registers again what was answered last, from behind begin, unless `unless` has ended.
func (l *Life[E]) Reregister(unless context.Context) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	if !l.established || unless.Err() != nil {
		return unless.Err()
	}
	ctx, cancel := l.within()
	defer cancel()
	answer, err := l.chain.Register(ctx, proto.CloneOf(l.entry))
	if err == nil {
		l.entry = merge(l.entry, answer)
	}
	return err
}

// Unregister takes the registration back, from behind begin, unless `unless` has ended.
func (l *Life[E]) Unregister(unless context.Context) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	if !l.established || unless.Err() != nil {
		return unless.Err()
	}
	ctx, cancel := l.within()
	defer cancel()
	err := l.chain.Unregister(ctx, proto.CloneOf(l.entry))
	l.finish()
	return err
}

func (l *Life[E]) finish() {
	l.established, l.over = false, true
	l.end()
}

// Begin lets one event of a name in at a time. It stands in servers and clients alike.
type Begin[E Entry] struct {
	Pass[E]
	root   context.Context
	mutex  sync.Mutex
	byName map[string]*Life[E]
}

// NewBegin makes one; events of its own end with the context.
func NewBegin[E Entry](root context.Context) *Begin[E] {
	return &Begin[E]{root: root, byName: map[string]*Life[E]{}}
}

// enter waits for the name's turn; a life that ended meanwhile is begun anew.
func (b *Begin[E]) enter(ctx context.Context, name string, next Handler[E]) *Life[E] {
	for {
		life := b.findOrStart(ctx, name, next)
		life.turn.Lock()
		if !life.over {
			return life
		}
		life.turn.Unlock()
	}
}

func (b *Begin[E]) findOrStart(ctx context.Context, name string, next Handler[E]) *Life[E] {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if life := b.byName[name]; life != nil {
		return life
	}
	life := &Life[E]{chain: next, root: b.root, values: ctx, store: map[any]any{}}
	if deadline, ok := ctx.Deadline(); ok {
		life.timeout = time.Until(deadline)
	}
	life.end = func() {
		b.mutex.Lock()
		defer b.mutex.Unlock()
		delete(b.byName, name)
	}
	b.byName[name] = life
	return life
}

// Register remembers what was answered.
func (b *Begin[E]) Register(ctx context.Context, entry E, next Handler[E]) (E, error) {
	if LifeOf[E](ctx) != nil {
		return next.Register(ctx, entry)
	}
	if entry.GetName() == "" {
		return nil, errNoName
	}
	life := b.enter(ctx, entry.GetName(), next)
	defer life.turn.Unlock()
	answer, err := next.Register(context.WithValue(ctx, lifeKey[E]{}, life), entry)
	if err != nil {
		if !life.established {
			life.finish()
		}
		return nil, err
	}
	life.entry = merge(entry, answer)
	life.established = true
	life.values = meta.WithPath(ctx, meta.PathFrom(ctx).Clone())
	return answer, nil
}

// Unregister takes back what was registered last; what is not known is handed on as it is.
func (b *Begin[E]) Unregister(ctx context.Context, entry E, next Handler[E]) error {
	if LifeOf[E](ctx) != nil {
		return next.Unregister(ctx, entry)
	}
	life := b.enter(ctx, entry.GetName(), next)
	defer life.turn.Unlock()
	if life.established {
		entry = proto.CloneOf(life.entry)
	}
	err := next.Unregister(context.WithValue(ctx, lifeKey[E]{}, life), entry)
	life.finish()
	return err
}

// merge is the answer under the name that was asked for, without an endpoint's expiry: the next
// registration asks for a new one.
func merge[E Entry](asked, answer E) E {
	merged := proto.CloneOf(answer)
	switch merged := any(merged).(type) {
	case *registry.NetworkService:
		merged.Name = asked.GetName()
	case *registry.NetworkServiceEndpoint:
		merged.Name = asked.GetName()
		merged.ExpirationTime = nil
	}
	return merged
}
